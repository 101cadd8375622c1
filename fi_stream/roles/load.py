"""The load test: an open loop of Poisson arrivals, timed from when each query should have gone out.

A sender that falls behind sends late and says so; it never thins the arrivals to fit, so a slow
federation cannot hide behind a waiting client (coordinated omission).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Final

from fi_stream.clock import SystemClock
from fi_stream.roles.client import seated
from fi_stream.roles.runtime import interruptible
from fi_stream.values import Instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fi_stream.clock import Clock
    from fi_stream.federation.rows import Rows
    from fi_stream.roles.client import Client
    from fi_stream.roles.load_meter import Meter
    from fi_stream.roles.result import Result

AT_ONCE: Final = 64
"""Queries that a late sender sends before it lets results in."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `rate` queries a second over all clients, for `duration` seconds.

    Arrivals beyond `in_flight` unsettled queries are not sent, and are counted. `deadline` is in
    seconds; `rule` and `protection` are the federation's first when None.
    """

    rate: float
    duration: float
    clients: int
    deadline: float
    rule: str | None
    in_flight: int
    seed: int
    protection: str | None = None


def arrivals(plan: Plan) -> Iterator[float]:
    """The seconds from the start at which queries should go out: a Poisson process, ascending."""
    random = Random(plan.seed)  # noqa: S311 -- arrival times are no secret
    at = random.expovariate(plan.rate)
    while at < plan.duration:
        yield at
        at += random.expovariate(plan.rate)


async def run_load(
    file: Path | str, plan: Plan, rows: Sequence[Rows], meter: Meter, stop: asyncio.Event
) -> None:
    """Connect, send what the plan says until asked to stop, and wait for what is in flight.

    Args:
        file: the client's `member.toml`; each of the plan's clients is a connection of its own.
        plan: how fast, how long, how many.
        rows: one query each, asked in turn, from the first again after the last.
        meter: takes the measurements, also of a test that is cut short.
        stop: set to end early.

    Raises:
        ConfigError, BrokerError, TopicError: as for `client.connect`.
        QueryError: a row does not fit the task, or the deadline, rule or
            protection the policy.
    """
    async with AsyncExitStack() as connections:
        async with interruptible(stop):  # a broker that is down is waited for
            clients = [
                await connections.enter_async_context(seated(file)) for _ in range(plan.clients)
            ]
        await _Sender(clients, plan, meter, SystemClock()).run(rows, stop)


class _Sender:
    """The loop that sends; settled queries come back by callback, without a task for each."""

    def __init__(self, clients: Sequence[Client], plan: Plan, meter: Meter, clock: Clock) -> None:
        self._clients = clients
        self._plan = plan
        self._meter = meter
        self._clock = clock
        self._wake = asyncio.Event()

    async def run(self, rows: Sequence[Rows], stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._wake_on(stop), name="load.stop")
            await self._send(rows, stop)
            while self._meter.in_flight:  # each settles by its deadline at the latest
                await self._woken(self._plan.deadline)
            stopping.cancel()

    async def _send(self, rows: Sequence[Rows], stop: asyncio.Event) -> None:
        start = self._clock.monotonic()
        sent_at_once = 0
        for at, row, client in zip(arrivals(self._plan), cycle(rows), cycle(self._clients)):
            due = Instant(start + at)
            while not stop.is_set() and (early := due - self._clock.monotonic()) > 0:
                await self._woken(early)
                sent_at_once = 0
            if sent_at_once >= AT_ONCE:
                await asyncio.sleep(0)
                sent_at_once = 0
            if stop.is_set():
                break
            self._arrival(client, row, due)
            sent_at_once += 1
        while not stop.is_set() and (rest := start + self._plan.duration - self._now()) > 0:
            await self._woken(rest)
        self._meter.seconds = self._now() - start

    def _arrival(self, client: Client, row: Rows, due: Instant) -> None:
        if self._meter.in_flight >= self._plan.in_flight:
            self._meter.not_sent += 1
            return
        lag = self._now() - due
        plan = self._plan
        result = client.post(
            row, deadline=plan.deadline, rule=plan.rule, protection=plan.protection
        )
        self._meter.sent_one(lag)
        result.add_done_callback(partial(self._settled, due))

    def _settled(self, due: Instant, future: asyncio.Future[Result]) -> None:
        self._meter.settled(future.result().outcome, self._now() - due)
        if not self._meter.in_flight:
            self._wake.set()

    def _now(self) -> float:
        return self._clock.monotonic()

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _woken(self, seconds: float) -> None:
        """Wait so long, or until something is to be looked at."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        timer.cancel()
