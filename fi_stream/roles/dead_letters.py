"""Refused records on their way to `fi.dead`: few, small, and nothing waits for them (DESIGN 8.8).

Whatever is wrong with that topic, the stream goes on: what could not be written is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.errors import BrokerError, ConfigError, TopicError
from fi_stream.events.dead_letter import Kept, Origin, Refuser, encode_letter, letter_about
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Outgoing, Partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.events.dead_letter import DeadLetter
    from fi_stream.events.refusals import Refusal
    from fi_stream.roles.seat import Seat
    from fi_stream.transport.port import Record

_log = structlog.get_logger("dead_letters")

AT_ONCE: Final = 50
"""Letters that one process writes in a second, at most."""

EVERY: Final = 1.0
"""Seconds from one write to the next, at least."""

MOST_WAITING: Final = 256
"""Letters in memory, of at most 5 KiB each."""

MOST_KNOWN: Final = 4096
"""Records remembered, so that one that is read again is not written again."""


class DeadLetters:
    """The dead letters of one process: taken in by its `Tally`, written by one task beside it."""

    def __init__(self, seat: Seat) -> None:
        self._transport = seat.transport
        self._by = Refuser(member=seat.settings.id, role=seat.role.value)
        self._target = Partition(catalogue().dead.name, 0)
        self._waiting: deque[DeadLetter] = deque()
        self._some = asyncio.Event()
        self._known: dict[tuple[Partition, int, int], None] = {}
        self.written = 0
        self.overflowed = 0
        """Records of which no letter was made: too many were waiting."""
        self.failed = 0
        """Letters that were not written, as far as we know."""

    def take(self, refusal: Refusal, record: Record) -> None:
        """Keep what deserves it, once; never waits, never raises."""
        identity = (record.source, record.offset, record.at)
        if not refusal.reason.poison or identity in self._known:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.overflowed += 1
            self._say(self.overflowed, 1, f"more than {AT_ONCE} a second")
            return
        self._known[identity] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._waiting.append(self._letter(refusal, record))
        self._some.set()

    def counts(self) -> Mapping[str, int]:
        """What became of the records that were to be kept."""
        return {"written": self.written, "failed": self.failed, "overflowed": self.overflowed}

    async def keep_writing(self) -> None:
        """Write what was taken in, for ever; what still waits at the end is counted as failed."""
        try:
            while True:
                await self._some.wait()
                await self._write(min(AT_ONCE, len(self._waiting)))
                await asyncio.sleep(EVERY)
        finally:
            if self._waiting:
                self._fail(len(self._waiting), "the process was asked to stop")

    async def _write(self, count: int) -> None:
        """Write the first so many; they leave the queue when it is known what became of them."""
        letters = [self._waiting[place] for place in range(count)]
        events = [
            Outgoing(self._target, letter.origin.name.encode(), encode_letter(letter))
            for letter in letters
        ]
        try:
            await self._transport.publish(events)
        except (BrokerError, ConfigError, TopicError) as error:
            self._fail(count, str(error))
        else:
            self.written += count
            self._forget(count)

    def _fail(self, count: int, why: str) -> None:
        self.failed += count
        self._forget(count)
        self._say(self.failed, count, why)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
        if not self._waiting:
            self._some.clear()

    def _say(self, total: int, more: int, why: str) -> None:
        """Log when a count has doubled, so that no flood hides it."""
        if total.bit_length() > (total - more).bit_length():
            _log.warning("dead.not_written", topic=self._target.topic, why=why, count=total)

    def _letter(self, refusal: Refusal, record: Record) -> DeadLetter:
        origin = Origin(
            topic=record.source.topic,
            partition=record.source.number,
            offset=record.offset,
            appended=max(0, record.at),  # a record may have no time
        )
        kept = Kept.of(record.key, record.value)
        return letter_about(origin, refusal.reason, self._by, kept)
