"""Very many queries open at once: what each of them costs, and how late they are settled.

A real aggregator, at a broker that is only a function call (`in_process`). No participant answers,
so every query waits for its deadline, and then all are due within a second, or at one moment.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench import job
from bench.in_process import InProcess, Sink
from bench.memory import resident
from bench.rounds import BenchFailed
from fi_stream.clock import SystemClock
from fi_stream.events.payloads import QueryPayload, frame
from fi_stream.federation.rows import encode_rows
from fi_stream.roles.aggregator import Aggregator
from fi_stream.roles.joining import Joining
from fi_stream.roles.progress import Progress
from fi_stream.roles.tally import Tally
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fi_stream.transport.port import Appended, Outgoing, Record
    from fi_stream.values import BrokerMillis, Instant

MOST_BYTES = 2048
"""What an open query may cost besides its responses (DESIGN 8.9)."""

SPREADS = (20.0, 0.0)
"""Seconds within which all are due."""

_TRIED = 2_000
_LONGER = 2.0
"""Opening all may take so many times as long as these few let expect: the machine may be busy."""

_GIVE_UP_AFTER = 60.0
_LIFE_MS = 25_000
_POLL = 500
_LOOKS = 1000
_EARLY_MS = 100.0
"""A process that is not scheduled between two looks at its clocks may be wrong by so much."""

_BEAT = 0.001


@dataclass(frozen=True, slots=True)
class Held:
    """What one of so many open queries costs.

    `look_us` is what it takes, with all of them open, to ask for the next close and the marks.
    """

    queries: int
    bytes_each: float
    look_us: float


@dataclass(frozen=True, slots=True)
class Settling:
    """How late so many open queries are settled that fall due within `spread` seconds.

    Milliseconds from the moment at which a query closes to that at which its result is sealed and
    handed to the broker; `stall` is the longest time for which the event loop did nothing else.
    `resident_each` is by how many bytes the process grew for each open query, and `at_once` the
    most results that were handed over together.
    """

    queries: int
    spread: float
    late_p50: float
    late_max: float
    stall: float
    resident_each: float
    at_once: int


def held(queries: int) -> Held:
    """Open so many queries in an aggregator's join, and look at the memory that is in use.

    Raises:
        BenchFailed: they are not all open.
    """
    members, clock = InProcess(), SystemClock()
    joining, tally = _joining(members)
    source = Source(members, queries, lambda _: members.clock.now() + _LIFE_MS)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while records := source.take(_POLL):
            joining.take(records)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    join = joining.joins[0]
    if join.open != queries:
        raise BenchFailed(f"{join.open} of {queries} queries are open; refused: {tally.counts()}")
    start = clock.monotonic()
    for _ in range(_LOOKS):
        join.next_close()
        join.marks()
    look = (clock.monotonic() - start) / _LOOKS * 1e6
    return Held(queries, (after - before) / queries, look)


def _joining(members: InProcess) -> tuple[Joining, Tally]:
    tally = Tally("aggregator")
    joining = Joining(members.seat("aggregator", Sink()), members.gates["aggregator"], tally)
    joining.begin({0: 0})
    return joining, tally


def _each_takes() -> float:
    """Seconds to make a query and open it, on this machine now."""
    members, clock = InProcess(), SystemClock()
    joining, _ = _joining(members)
    source = Source(members, _TRIED, lambda _: members.clock.now() + _LIFE_MS)
    start = clock.monotonic()
    while records := source.take(_POLL):
        joining.take(records)
    return (clock.monotonic() - start) / _TRIED


def settling(queries: int, spread: float) -> Settling:
    """Let an aggregator open so many queries, and wait until all are settled.

    Raises:
        BenchFailed: some were lost, settled twice, or before their moment.
    """
    return asyncio.run(_settling(queries, spread))


async def _settling(queries: int, spread: float) -> Settling:
    members, clock, each = InProcess(), SystemClock(), _each_takes()
    hop = members.federation.policy.limits.hop_ms
    begun, now = clock.monotonic(), members.clock.now()
    first = now + hop + round(1000 * (1 + _LONGER * queries * each))
    deadlines = first + np.linspace(0, spread * 1000, queries).astype(np.int64)
    moments = begun + (deadlines - hop - now) / 1000
    results, source = (
        _Results(queries),
        Source(members, queries, lambda number: int(deadlines[number])),
    )
    seat, tally, stop = members.seat("aggregator", results), Tally("aggregator"), asyncio.Event()
    keys = members.keys(seat, tally)
    await keys.announce()
    keys.ready.set()
    aggregator = Aggregator(seat, keys, tally, source, Progress(begun))
    before = resident()
    running = (
        asyncio.create_task(aggregator.run(stop), name="aggregator"),
        asyncio.create_task(_longest_stall(source.exhausted, stop), name="stall"),
    )
    try:
        await source.exhausted.wait()
        opened, after = clock.monotonic(), resident()
        async with asyncio.timeout(float(moments[-1]) - opened + _GIVE_UP_AFTER):
            await results.complete.wait()
    except TimeoutError:
        lost = int((results.at == 0).sum())
        raise BenchFailed(f"{lost} queries were not settled; refused: {tally.counts()}") from None
    finally:
        stop.set()
        _, stall = await asyncio.gather(*running)
    late = (results.at - moments) * 1000
    if results.doubled or late.min() < -_EARLY_MS or opened > moments[0]:
        raise BenchFailed(
            f"{results.doubled} queries were settled twice, one {-late.min():.1f} ms early; all "
            f"were open {1000 * (moments[0] - opened):.0f} ms before the first was due"
        )
    return Settling(
        queries,
        spread,
        float(np.median(late)),
        float(late.max()),
        1000 * stall,
        (after - before) / queries,
        results.at_once,
    )


async def _longest_stall(begin: asyncio.Event, stop: asyncio.Event) -> float:
    """The longest time, in seconds, for which this task was not woken although it was due."""
    clock, longest = SystemClock(), 0.0
    await begin.wait()
    while not stop.is_set():
        due = clock.monotonic() + _BEAT
        await asyncio.sleep(_BEAT)
        longest = max(longest, clock.monotonic() - due)
    return longest


class Source:
    """The records of an aggregator's three topics: queries, each made when it is read."""

    skipped = 0
    jumped = 0

    def __init__(self, members: InProcess, queries: int, deadline: Callable[[int], int]) -> None:
        self._members = members
        self._count = queries
        self._deadline = deadline
        _, inputs = encode_rows(job.questions().rows[0], members.federation.task)
        self._payload = frame(QueryPayload(inputs=inputs))
        topics = catalogue()
        self._queries = Partition(topics.queries.name, 0)
        self._others = (Partition(topics.responses.name, 0), Partition(topics.results.name, 0))
        self._new: frozenset[Partition] | None = frozenset({self._queries, *self._others})
        self._read = 0
        self.exhausted = asyncio.Event()

    def take(self, most: int) -> list[Record]:
        """The next queries; they are numbered by their ids and offsets."""
        numbers = range(self._read, min(self._read + most, self._count))
        self._read = numbers.stop
        return [self._record(number) for number in numbers]

    async def poll(self, wait: float, most: int = _POLL) -> list[Record]:
        """The next queries; when there is none, all that were read have been taken in."""
        records = self.take(most)
        if not records:
            self.exhausted.set()
            await asyncio.sleep(wait)
        return records

    def assignment_changed(self) -> frozenset[Partition] | None:
        """All three, once."""
        new, self._new = self._new, None
        return new

    async def starts(self) -> Mapping[Partition, int]:
        """Where it stands."""
        return {self._queries: self._read, **dict.fromkeys(self._others, 0)}

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Nothing was there when it began, and no response comes ever."""
        return dict.fromkeys(partitions, 0)

    async def seek_to_time(self, partitions: Iterable[Partition], at: BrokerMillis) -> None:
        """Nobody asks for that here."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Nothing else could be read."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Nothing was paused."""

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Nobody reads this again."""

    def _record(self, number: int) -> Record:
        ask = self._members.ask(number.to_bytes(16, "big"), self._deadline(number))
        sealed = self._members.epochs["client"].seal(ask, None, self._payload)
        return self._members.record(self._queries.topic, ask.query, sealed.value, number)


class _Results(Sink):
    """When each query's result was handed over, by the query's number."""

    def __init__(self, queries: int) -> None:
        self._clock = SystemClock()
        self._missing = queries
        self.at = np.zeros(queries)
        self.doubled = 0
        self.at_once = 0
        self.complete = asyncio.Event()

    async def publish(self, events: Sequence[Outgoing]) -> list[Appended]:
        now: Instant = self._clock.monotonic()
        told = [event for event in events if event.target.topic == catalogue().results.name]
        for event in told:
            number = int.from_bytes(event.key, "big")
            self.doubled += bool(self.at[number])
            self.at[number] = now
        self.at_once = max(self.at_once, len(told))
        self._missing -= len(told)
        if self._missing <= 0:
            self.complete.set()
        return []
