"""A reader of partitions, taken by hand or shared in a group (DESIGN 6)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NoOffsetForPartitionError,
)

from fi_stream.errors import BrokerError
from fi_stream.transport.consumer import Consumer, OutOfRange, Reading
from fi_stream.transport.cursor import Cursor
from fi_stream.transport.fetching import Fetching
from fi_stream.transport.placing import FORBIDDEN, Placing, not_allowed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from fi_stream.clock import Clock
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.port import Partition, Record
    from fi_stream.values import BrokerMillis

_log = structlog.get_logger()
_T = TypeVar("_T")

_AWAY: Final = (KafkaConnectionError, NodeNotReadyError)
_RETRY: Final = 0.2
_ANSWER_WITHIN: Final = 10.0
_PATIENCE: Final = 5


class KafkaReader:
    """The port's `Reader` on aiokafka; one caller polls at a time.

    Args:
        connection: how to reach the broker.
        clock: local time.
        reading: the partitions, or the group.
    """

    def __init__(self, connection: Connection, clock: Clock, reading: Reading) -> None:
        self._bootstrap = connection.bootstrap
        self._clock = clock
        self._reading = reading
        self._cursor = Cursor(start_paused=reading.paused)
        self._consumer = Consumer(connection, reading, self._on_assigned, self._cursor.revoke)
        self._fetching = Fetching(self._consumer, self._cursor)
        self._placing = Placing(self._consumer, self._cursor, clock, reading, self._note_active)
        self._activated = asyncio.Event()
        self._troubles = 0

    @property
    def skipped(self) -> int:
        """Offsets passed over because their records could not be decoded."""
        return self._fetching.skipped

    @property
    def jumped(self) -> int:
        """Times that a log did not go on where this reader stood: retention, a topic made anew."""
        return self._placing.jumped

    async def open(self, within: float) -> None:
        """Connect, and join the group.

        Raises:
            BrokerError: not done within so many seconds, or not allowed.
        """
        try:
            async with asyncio.timeout(within):
                await self._start()
        except (KafkaError, TimeoutError) as error:
            await self.close()
            raise BrokerError(
                f"no reader of {self._reading} within {within:g} s, at {self._bootstrap!r} "
                f"({type(error).__name__}). Is the broker running, and may this member read these "
                "topics and join this group?"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        """Again and again while the broker is away: it may have gone since we found it."""
        while True:
            try:
                await self._consumer.start()
            except _AWAY:
                await self._consumer.stop()
                await asyncio.sleep(_RETRY)
            else:
                return

    async def close(self) -> None:
        """Leave the group and close."""
        await self._placing.close()
        await self._consumer.stop()

    async def poll(self, wait: float, most: int = 500) -> list[Record]:
        """At most `most` records, as soon as there is one; empty after `wait` seconds.

        While the broker is away it returns nothing, and goes on when it is back. A record that
        cannot be decoded is skipped after a few tries, logged, and counted in `skipped`.

        Raises:
            BrokerError: this member may not read, or the reader could not be opened again.
        """
        until = self._clock.monotonic() + wait
        if not self._cursor.active and not await self._becomes_active(wait):
            # Asking the client library for no partition would mean every partition.
            return []
        left = max(0.0, until - self._clock.monotonic())
        try:
            # A rebalance holds a fetch for as long as it takes; our caller waits no longer for it.
            async with asyncio.timeout(self._fetching.longest(left)):
                records = await self._fetching.fetch(left, most)
        except TimeoutError:
            records = []
        except OutOfRange as error:
            self._placing.out_of_range(error.partitions)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._placing.done()
            records = []
        except NoOffsetForPartitionError:
            records = []  # of a partition that is ours since a moment ago, and not fixed yet
        except FORBIDDEN as error:
            raise not_allowed(self._reading, error) from error
        except KafkaError as error:
            self._troubles += 1
            _log.warning("reader.trouble", of=str(self._reading), reason=type(error).__name__)
            await asyncio.sleep(min(left, _RETRY))
            records = []
        else:
            self._troubles = 0
        if not records and (self._consumer.dead or self._troubles >= _PATIENCE):
            await self._reopen()
        return records

    def assignment_changed(self) -> frozenset[Partition] | None:
        """The whole new assignment, once after each change; a first one and a loss are changes."""
        return self._cursor.take_change()

    async def starts(self) -> Mapping[Partition, int]:
        """The position of every assigned partition; waits until each is fixed.

        A position also moves past offsets that hold no record, such as the end of a transaction.
        """
        await self._placing.done()
        for partition in self._cursor.positions():
            theirs = await self._consumer.position(partition)
            if theirs is not None:
                self._fetching.follow(partition, theirs)
        return self._cursor.positions()

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The offset after the last record, asked of the broker now, in one call.

        Raises:
            BrokerError: no answer in time.
        """
        return await self._ask(self._consumer.ends(frozenset(partitions)), "where they end")

    async def seek_to_time(self, partitions: Iterable[Partition], at: BrokerMillis) -> None:
        """Go to the first record appended at or after `at` (the beginning, on the embedded broker).

        Raises:
            BrokerError: no answer in time.
        """
        await self.starts()
        chosen = frozenset(partitions) & self._cursor.assigned
        if self._reading.embedded:
            offsets = await self._ask(self._consumer.begins(chosen), "where they begin")
        else:
            # The ends come first: what is appended while we ask is after `at`, and must be read.
            offsets = await self._ask(self._consumer.ends(chosen), "where they end")
            offsets |= await self._ask(self._consumer.at_time(chosen, at), "offsets by time")
        for partition in chosen & self._cursor.assigned:
            self._fetching.go(partition, offsets[partition])

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Return nothing of these until they are resumed; those not assigned are left alone."""
        self._consumer.pause(self._cursor.pause(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Return records of these again."""
        self._consumer.resume(self._cursor.resume(partitions))
        self._note_active()

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Keep, for the group, the next offset to read; a no-op without a group.

        A commit that fails, because the group changed or the broker is away, is logged and is no
        error: the next one carries the same or more, and replay from an older mark is harmless.
        """
        at = self._cursor.positions()
        # Of a topic that was made anew meanwhile, the owner may still mean the old one.
        ours = {each: min(offset, at[each]) for each, offset in offsets.items() if each in at}
        if not self._reading.grouped or not ours:
            return
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._consumer.commit(ours)
        except (KafkaError, TimeoutError) as error:
            _log.warning("reader.not_committed", of=str(self._reading), reason=_name(error))

    def topic_is_back(self, topic: str, identity: bytes | None) -> None:
        """A topic that we read is there that was missing, or was made anew."""
        if topic in self._reading.topics:
            self._consumer.look_at_topics()
            self._placing.topic_is_back(topic, identity)

    def _on_assigned(self, partitions: Iterable[Partition]) -> None:
        self._cursor.assign(partitions)
        self._consumer.pause(self._cursor.paused)
        self._placing.begin()

    async def _becomes_active(self, wait: float) -> bool:
        self._placing.check()
        self._activated.clear()
        try:
            async with asyncio.timeout(wait):
                await self._activated.wait()
        except TimeoutError:
            return False
        return True

    def _note_active(self) -> None:
        if self._cursor.active:
            self._activated.set()

    async def _reopen(self) -> None:
        """Open a new consumer in the place of one that cannot go on; positions are kept."""
        _log.error("reader.reopening", of=str(self._reading))
        self._troubles = 0
        await self._consumer.stop()
        self._cursor.revoke()
        await self.open(_ANSWER_WITHIN)

    async def _ask(self, answer: Awaitable[_T], what: str) -> _T:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await answer
        except (KafkaError, TimeoutError) as error:
            raise BrokerError(
                f"broker {self._bootstrap!r} did not say {what}, for {self._reading}, within "
                f"{_ANSWER_WITHIN:g} s ({_name(error)}). Is it running?"
            ) from error


def _name(error: BaseException) -> str:
    return type(error).__name__
