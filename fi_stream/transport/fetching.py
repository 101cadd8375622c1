"""Fetching so that no record is lost, and none that cannot be decoded stops the stream (DESIGN 6).

When the client library fails in the middle of a fetch, it has already moved on in the partitions
that it had read before; what it read of them is gone. So after any exception every partition goes
back to where our own cursor stands. Then partitions are read one by one, a record at a time, until
the bad batch shows; after a few tries it is skipped.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    RecordTooLargeError,
    UnsupportedCodecError,
)

from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.transport.consumer import Consumer
    from fi_stream.transport.cursor import Cursor

_log = structlog.get_logger()

_TRIES: Final = 2
_CLEAN_PASSES: Final = 8
_MOST_CLEAN_PASSES: Final = 1024
_SHORTEST_LOOK: Final = 0.02
_UNDECODABLE: Final = (CorruptRecordException, UnsupportedCodecError, RecordTooLargeError)


class Fetching:
    """Takes records out of a consumer and moves the cursor; both are the reader's."""

    def __init__(self, consumer: Consumer, cursor: Cursor) -> None:
        self._consumer = consumer
        self._cursor = cursor
        self._careful = 0
        self._clean_passes = _CLEAN_PASSES
        self._failures: Counter[tuple[Partition, int]] = Counter()
        self.skipped = 0
        """Offsets passed over because their records could not be decoded."""
        self._in_hand = False

    def longest(self, wait: float) -> float:
        """Seconds that `fetch(wait)` may take when no rebalance holds it."""
        return wait + 0.05 + (_SHORTEST_LOOK * len(self._cursor.active) if self._careful else 0)

    async def fetch(self, wait: float, most: int) -> list[Record]:
        """Records of the active partitions, in order within each.

        Raises:
            KafkaError: not about one record; no record was lost.
        """
        try:
            if self._careful:
                return await self._one_by_one(wait, most)
            return self._accept(await self._consumer.fetch(wait, most))
        except Exception as error:
            self._rewind()
            if not _about_one_record(error):
                raise
        # A bad batch may be fetched only after some passes; when it was not found, look for longer.
        self._careful = self._clean_passes
        self._clean_passes = min(2 * self._clean_passes, _MOST_CLEAN_PASSES)
        return []

    def go(self, partition: Partition, offset: int) -> None:
        """Read on from this offset."""
        self._consumer.seek(partition, offset)
        self._cursor.fix(partition, offset)

    def follow(self, partition: Partition, theirs: int) -> None:
        """The client library passed offsets that hold no record: a transaction's end, compaction.

        While records are in hand that were not accepted yet, it is ahead of us because of them.
        """
        ours = self._cursor.positions().get(partition)
        if not self._in_hand and ours is not None and theirs > ours:
            self._cursor.advance(partition, theirs - 1)

    async def _one_by_one(self, wait: float, most: int) -> list[Record]:
        partitions = sorted(self._cursor.active)
        share = max(_SHORTEST_LOOK, wait / len(partitions))
        quota = max(1, most // len(partitions))
        generation = self._cursor.generation
        taken: list[dict[Partition, list[Any]]] = []
        onward: dict[Partition, int] = {}
        self._in_hand = True
        try:
            for partition in partitions:
                error = await self._take(partition, 0 if taken else share, quota, taken)
                if error is not None:
                    offset = self._after(taken, partition)
                    onward[partition] = await self._past(partition, offset, error)
        except BaseException:
            # Cancelled in a rebalance, or not about one record: nothing was accepted yet.
            self._rewind()
            raise
        finally:
            self._in_hand = False
        if generation != self._cursor.generation:
            return []
        records = [record for fetched in taken for record in self._accept(fetched)]
        for partition, offset in onward.items():
            self.go(partition, offset)
        self._careful = self._clean_passes if onward else self._careful - 1
        if not self._careful:
            self._failures.clear()
        return records

    async def _take(
        self, partition: Partition, wait: float, quota: int, taken: list[dict[Partition, list[Any]]]
    ) -> Exception | None:
        """Add up to `quota` single records to `taken`; returns what a decoder raised."""
        try:
            for _ in range(quota):
                fetched = await self._consumer.fetch(wait, 1, partition)
                if not fetched:
                    break
                taken.append(fetched)
                wait = 0
        except Exception as error:
            if not _about_one_record(error):
                raise
            return error
        return None

    async def _past(self, partition: Partition, offset: int, error: Exception) -> int:
        """Where to go on: the same offset, or, after a few tries, the end of its batch."""
        self._failures[partition, offset] += 1
        if self._failures[partition, offset] < _TRIES:
            return offset
        end = await self._consumer.end_of_batch(partition, offset)
        del self._failures[partition, offset]
        self._clean_passes = _CLEAN_PASSES
        self.skipped += end - offset
        _log.error(
            "reader.skipped",
            topic=partition.topic,
            partition=partition.number,
            first=offset,
            count=end - offset,
            reason=type(error).__name__,
        )
        return end

    def _after(self, taken: list[dict[Partition, list[Any]]], partition: Partition) -> int:
        """The offset after what was taken of a partition, or where the cursor stands."""
        for fetched in reversed(taken):
            if partition in fetched:
                after: int = fetched[partition][-1].offset + 1
                return after
        return self._cursor.next_of(partition)

    def _accept(self, fetched: dict[Partition, list[Any]]) -> list[Record]:
        """Records to hand over, with the cursor moved past them."""
        records: list[Record] = []
        for source, found in fetched.items():
            if source not in self._cursor.active:
                # Paused or taken away while the fetch was under way.
                self._rewind_one(source)
                continue
            self._cursor.advance(source, found[-1].offset)
            records.extend(_record(source, each) for each in found)
        return records

    def _rewind(self) -> None:
        for partition in self._cursor.positions():
            self._rewind_one(partition)

    def _rewind_one(self, partition: Partition) -> None:
        offset = self._cursor.positions().get(partition)
        if offset is None:
            return  # its position is being fixed, which seeks
        try:
            self._consumer.seek(partition, offset)
        except IllegalStateError:
            _log.debug("reader.rebalancing", topic=partition.topic, partition=partition.number)


def _about_one_record(error: Exception) -> bool:
    # Hostile bytes can make the decoder raise anything, not only the library's own errors.
    return isinstance(error, _UNDECODABLE) or not isinstance(
        error, KafkaError | ConsumerStoppedError
    )


def _record(source: Partition, each: Any) -> Record:
    return Record(
        source,
        each.offset,
        BrokerMillis(each.timestamp),
        each.key,
        each.value or b"",
        each.headers,
    )
