"""Very many events that nobody should send, at the doors of real roles: how each of them fares.

Each is refused and counted by its reason, or waits for a grant, or is let in because nothing that
its tag covers was touched. Measured is for how long one event holds the loop, and the memory.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import numpy as np

from bench import mutations
from bench.doors import ASKED, DOORS, Doors, Shelf
from bench.genuine import Genuine, identities, identity
from bench.in_process import InProcess
from bench.memory import resident
from bench.rounds import BenchFailed
from fi_stream.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from bench.mutations import Maker

MOST_MILLIS: Final = 5.0
"""For which one event may hold the loop."""

MOST_GROWTH: Final = 24 * 2**20
"""Bytes by which the process may grow: all that it may keep of such events has a bound."""

EPOCHS: Final = "random epochs"
SEALED: Final = "sealed by a member"
KINDS: Mapping[str, tuple[Maker, float]] = {
    EPOCHS: (mutations.with_random_epoch, 0.1),
    SEALED: (mutations.untouched, 0.05),
    "mutated": (mutations.mutated, 0.45),
    "spliced": (mutations.spliced, 0.1),
    "mistyped": (mutations.mistyped, 0.2),
    "misshapen": (mutations.misshapen, 0.1),
}
"""What is fed, one kind after another, and its part of all."""

_AGAIN, _AGAIN_FROM = 20, 1.0
_FITTING = 0.9
_AT_ONCE = 500
_FRESH = 5_000


@dataclass(frozen=True, slots=True)
class Kind:
    """How events of one kind fared: for how many milliseconds one held the loop.

    One that took longer than 1 ms is taken in again, until it does not or for twenty times, and the
    shortest counts: what else the machine does can only add.
    """

    name: str
    events: int
    p50: float
    p9999: float
    longest: float


@dataclass(frozen=True, slots=True)
class Fared:
    """How all fared; `growth` is of resident memory, in bytes, from the first events on."""

    kinds: tuple[Kind, ...]
    events: int
    refused: Mapping[str, int]
    waiting: int
    let_in: int
    letters: int
    largest_letter: int
    growth: int


def feed(events: int, seed: int) -> Fared:
    """Feed so many.

    Raises:
        BenchFailed: something was let in, or put out, that must not be.
    """
    return asyncio.run(_feed(events, Random(seed)))


async def _feed(events: int, chance: Random) -> Fared:
    feeding = _Feeding(InProcess(), chance)
    doors, shelf = feeding.doors, feeding.shelf
    writing = asyncio.create_task(doors.dead.keep_writing(), name="dead letters")
    # Some of each kind first: what is loaded or remembered once is slow once, and no growth.
    for name in KINDS:
        await feeding.some(name, _AT_ONCE)
    before, feeding.most_memory = resident(), 0
    kinds = [await feeding.some(name, round(events * share)) for name, (_, share) in KINDS.items()]
    writing.cancel()
    return Fared(
        tuple(kinds),
        feeding.fed,
        doors.tally.counts(),
        doors.waiting,
        feeding.let_in,
        shelf.letters,
        shelf.largest,
        feeding.most_memory - before,
    )


class _Feeding:
    """Events on their way in, and what is known of them."""

    def __init__(self, members: InProcess, chance: Random) -> None:
        self._members = members
        self._chance = chance
        self._clock = SystemClock()
        self._genuine = Genuine(members)
        self._known: frozenset[bytes | None] = frozenset()
        self.shelf = Shelf()
        self.doors = Doors(members, self.shelf)
        self.fed = 0
        self.let_in = 0
        self.most_memory = 0

    async def some(self, name: str, events: int) -> Kind:
        """So many of one kind, some after others: what is genuine does not last long."""
        sizes = [min(_FRESH, events - done) for done in range(0, events, _FRESH)]
        took = np.concatenate([await self._fresh(name, size) for size in sizes])
        p50, p9999 = np.percentile(took, (50, 99.99))
        return Kind(name, events, float(p50), float(p9999), float(took.max()))

    async def _fresh(self, name: str, events: int) -> NDArray[np.float64]:
        make, _ = KINDS[name]
        self._genuine = Genuine(self._members, self._chance if name == SEALED else None)
        self._known = identities(self._genuine.all)
        took = np.zeros(events)
        with self._bystander() if name == EPOCHS else nullcontext():
            for number in range(events):
                door, fitting = self._where(name)
                took[number] = self._timed(door, make(self._chance, fitting))
                if number % _AT_ONCE == 0:
                    self.most_memory = max(self.most_memory, resident())
                    await asyncio.sleep(0)
        return took

    def _where(self, name: str) -> tuple[str, Sequence[bytes]]:
        """A door, and what to spoil for it: what comes in there, or now and then anything."""
        if name == EPOCHS:
            door = self._chance.choice(ASKED)
            return door, self._genuine.at[door]
        door, fitting = self._chance.choice(DOORS), self._chance.random() < _FITTING
        return door, self._genuine.at[door] if fitting else self._genuine.all

    def _timed(self, door: str, value: bytes) -> float:
        shortest, again = self._one(door, value), 0
        while shortest > _AGAIN_FROM and again < _AGAIN:
            shortest, again = min(shortest, self._one(door, value)), again + 1
        return shortest

    def _one(self, door: str, value: bytes) -> float:
        """Let one come in; milliseconds."""
        doors = self.doors
        record, before = doors.record(door, value), doors.accounted
        start = self._clock.monotonic()
        doors.take(door, record)
        took = self._clock.monotonic() - start
        self.fed += 1
        if doors.accounted == before:
            self.let_in += 1
            if identity(value) not in self._known:
                raise BenchFailed(f"at {door}, {value[:2000].hex()} was let in, and nobody made it")
        return took * 1000

    @contextmanager
    def _bystander(self) -> Iterator[None]:
        """An event of another sender waits for its grant meanwhile, and is still there then."""
        value, grant = self._genuine.bystander()
        self._one("responses", value)
        yield
        released = self.doors.granted(self.doors.record("keys", grant))
        self.let_in += len(released)
        if value not in [record.value for record in released]:
            raise BenchFailed("an event that waited for its grant was put out by another sender's")
