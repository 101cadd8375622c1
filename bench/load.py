"""The load that every pipeline gets from its client, and what is measured of it.

Light load is an open loop: queries go out at fixed times whatever comes back, and latency counts
from the intended time. The highest rate is a closed loop: so many queries are in flight, always.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench.cpu import used
from bench.job import questions
from fi_stream.clock import SystemClock

if TYPE_CHECKING:
    from numpy.typing import NDArray

READY_WITHIN = 45.0
DRAIN_WITHIN = 30.0
RAMP = 1.0
_PROBE_EVERY = 0.2


class Asker(Protocol):
    """The client of one pipeline; each result goes to the `Answers` that it was opened with."""

    def post(self, row: NDArray[np.float32], token: int) -> None:
        """Ask one query; it may leave together with others that are posted in the same turn."""


class Answers:
    """The queries that are in flight, and what came back."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._labels = questions().labels
        self._asked: dict[int, tuple[int, float]] = {}
        self._next = 0
        self._changed = asyncio.Event()
        self.latencies: list[float] = []
        self.right = 0
        self.wrong = 0

    @property
    def in_flight(self) -> int:
        """Queries without a result."""
        return len(self._asked)

    def expect(self, at: float) -> tuple[NDArray[np.float32], int]:
        """The next row to ask and its token; latency will count from `at`."""
        token, self._next = self._next, self._next + 1
        index = token % len(self._labels)
        self._asked[token] = (index, at)
        return questions().rows[index], token

    def take(self, token: int, label: int | None) -> None:
        """A result came; None when the pipeline gave none that is complete."""
        asked = self._asked.pop(token, None)
        if asked is None:
            return  # a copy, or one that was given up
        index, at = asked
        if label == self._labels[index]:
            self.right += 1
        else:
            self.wrong += 1
        self.latencies.append(self._clock.monotonic() - at)
        self._changed.set()

    async def change(self, within: float) -> None:
        """Wait until something came back since the last call, but no longer than that."""
        try:
            async with asyncio.timeout(within):
                await self._changed.wait()
        except TimeoutError:
            return
        finally:
            self._changed.clear()

    async def drain(self, within: float) -> int:
        """Wait for what is in flight; how many were given up."""
        end = self._clock.monotonic() + within
        while self._asked and (left := end - self._clock.monotonic()) > 0:
            await self.change(left)
        lost = len(self._asked)
        self._asked.clear()
        return lost

    def reset(self) -> None:
        """Begin a new measurement."""
        self.latencies, self.right, self.wrong = [], 0, 0


@dataclass(frozen=True, slots=True)
class Light:
    """One round at a low rate; latencies in milliseconds."""

    p50: float
    p99: float
    right: int
    wrong: int
    lost: int


@dataclass(frozen=True, slots=True)
class Peak:
    """One round with `window` queries in flight; `rate` counts right results a second.

    `cpu_us` is the processor time of all five processes for each of them, in microseconds.
    """

    window: int
    rate: float
    cpu_us: float | None
    right: int
    wrong: int
    lost: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a client does once its pipeline answers: rate in queries/s, times in seconds.

    `others` are the other processes of the pipeline, whose processor time is counted.
    """

    rate: float
    light_seconds: float
    windows: tuple[int, ...]
    peak_seconds: float
    others: tuple[int, ...] = ()


async def run(plan: Plan, asker: Asker, answers: Answers) -> dict[str, Any]:
    """Wait for the pipeline, warm it up, measure it."""
    await _until_ready(asker, answers)
    await _open_loop(asker, answers, plan.rate, RAMP)
    light = await _light(plan, asker, answers)
    peaks = [await _peak(window, plan, asker, answers) for window in plan.windows]
    return {"light": asdict(light), "peaks": [asdict(peak) for peak in peaks]}


async def _until_ready(asker: Asker, answers: Answers) -> None:
    """Ask until all roles are there: results that come before may be incomplete or lost."""
    clock = SystemClock()
    end = clock.monotonic() + READY_WITHIN
    while not answers.right:
        if clock.monotonic() > end:
            raise TimeoutError(f"no right result within {READY_WITHIN:g} s of the start")
        asker.post(*answers.expect(clock.monotonic()))
        await asyncio.sleep(_PROBE_EVERY)
    await answers.drain(_PROBE_EVERY)


async def _open_loop(asker: Asker, answers: Answers, rate: float, seconds: float) -> int:
    """Ask at fixed times; how many results never came."""
    clock = SystemClock()
    start = clock.monotonic() + 0.05
    answers.reset()
    for index in range(round(rate * seconds)):
        due = start + index / rate
        if (left := due - clock.monotonic()) > 0:
            await asyncio.sleep(left)
        asker.post(*answers.expect(due))
    return await answers.drain(DRAIN_WITHIN)


async def _light(plan: Plan, asker: Asker, answers: Answers) -> Light:
    lost = await _open_loop(asker, answers, plan.rate, plan.light_seconds)
    p50, p99 = np.percentile(np.array(answers.latencies or [np.inf]) * 1000, (50, 99))
    return Light(float(p50), float(p99), answers.right, answers.wrong, lost)


async def _peak(window: int, plan: Plan, asker: Asker, answers: Answers) -> Peak:
    answers.reset()
    await _closed_loop(window, RAMP, asker, answers)
    clock, processes = SystemClock(), (*plan.others, os.getpid())
    start, before, cpu = clock.monotonic(), answers.right, used(processes)
    await _closed_loop(window, plan.peak_seconds, asker, answers)
    right, cpu_after = answers.right - before, used(processes)
    rate = right / (clock.monotonic() - start)
    cpu_us = None
    if cpu is not None and cpu_after is not None and right:
        cpu_us = (cpu_after - cpu) / right * 1e6
    lost = await answers.drain(DRAIN_WITHIN)
    return Peak(window, rate, cpu_us, answers.right, answers.wrong, lost)


async def _closed_loop(window: int, seconds: float, asker: Asker, answers: Answers) -> None:
    """Keep so many queries in flight; whatever came back together is replaced together."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while (now := clock.monotonic()) < end:
        for _ in range(window - answers.in_flight):
            asker.post(*answers.expect(now))
        await answers.change(end - now)
