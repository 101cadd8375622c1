"""Where a reader begins on each partition, and where it goes on when a log does not (DESIGN 6).

A group's commit comes first, then where this reader stood (unless it is a group that reads from the
beginning), then what its owner asked for. Retention may have deleted what would come next, and a
topic may have been made anew under its name: then the oldest record that is kept is next, so that
no live one is passed over, and the jump is told.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from fi_stream.errors import BrokerError
from fi_stream.transport.port import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fi_stream.clock import Clock
    from fi_stream.transport.consumer import Consumer, Reading
    from fi_stream.transport.cursor import Cursor
    from fi_stream.transport.port import Partition

_log = structlog.get_logger()

_RETRY: Final = 0.2
_SAY_EVERY: Final = 5.0
_COMMITTED_WITHIN: Final = 2.0
FORBIDDEN: Final = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)


class Placing:
    """Fixes the cursor's positions, in a task: a rebalance must not wait for the broker.

    Args:
        consumer: the reader's.
        cursor: the reader's.
        clock: local time.
        reading: what the reader reads.
        placed: told whenever positions were fixed.
    """

    def __init__(
        self,
        consumer: Consumer,
        cursor: Cursor,
        clock: Clock,
        reading: Reading,
        placed: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._cursor = cursor
        self._clock = clock
        self._reading = reading
        self._identities = dict(reading.identities)
        self._placed = placed
        self._anew: set[str] = set()
        self._astray: dict[Partition, bool] = {}
        self._unmarked: set[Partition] = set()
        self._fixing: asyncio.Task[None] | None = None
        self.jumped = 0
        """Times that a log did not go on where this reader stood: retention, a topic made anew."""

    def begin(self) -> None:
        """Fix what is not fixed, in the background."""
        if ours := self._cursor.assigned:  # whoever has the others now finds their way
            self._astray = {each: anew for each, anew in self._astray.items() if each in ours}
        if self._fixing is None or self._fixing.done():
            self._fixing = asyncio.create_task(self._fix(), name=f"reader.fix {self._reading}")

    def out_of_range(self, partitions: frozenset[Partition]) -> None:
        """The logs of these do not go on where we stand."""
        # Said again and again while we look; what is being looked for must not begin anew.
        self._find_again(partitions & self._cursor.positions().keys(), anew=False)

    def topic_is_back(self, topic: str, identity: bytes | None) -> None:
        """A topic is there that was missing, or is not the one that it was."""
        if identity == self._identities.get(topic):
            return
        self._identities[topic] = identity
        self._anew.add(topic)
        self._find_again(self._cursor.remembered_of(topic), anew=True)

    async def done(self) -> None:
        """Wait until every position is fixed.

        Raises:
            BrokerError: this member may not read.
        """
        while self._cursor.unfixed and self._fixing is not None:
            await asyncio.wait([self._fixing])
            self._fixing.result()

    def check(self) -> None:
        """Raise what ended the fixing, if something did.

        Raises:
            BrokerError: this member may not read.
        """
        if self._fixing is not None and self._fixing.done():
            self._fixing.result()

    async def close(self) -> None:
        """Stop fixing."""
        if self._fixing is not None:
            self._fixing.cancel()
            await asyncio.gather(self._fixing, return_exceptions=True)

    def _find_again(self, partitions: frozenset[Partition], *, anew: bool) -> None:
        if partitions:
            self._astray |= dict.fromkeys(partitions, anew)
            self._cursor.unfix(partitions)
            self.begin()

    async def _fix(self) -> None:
        """Find the position of every assigned partition, however long the broker takes."""
        said = self._clock.monotonic()
        while wanted := self._cursor.unfixed:
            generation = self._cursor.generation
            try:
                offsets = await self._offsets(wanted)
                if generation == self._cursor.generation:
                    await self._go(offsets)
            except FORBIDDEN as error:
                raise not_allowed(self._reading, error) from error
            except KafkaError as error:
                if self._clock.monotonic() - said > _SAY_EVERY:
                    said = self._clock.monotonic()
                    name = type(error).__name__
                    _log.warning("reader.no_position", of=str(self._reading), reason=name)
                await asyncio.sleep(_RETRY)
        self._placed()

    async def _go(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from there.

        A mark of a log that is gone must not outlive it, and whoever begins at the end, and dies
        before its first commit, must not begin at a later end.
        """
        marks = {each: offsets[each] for each in self._unmarked & offsets.keys()}
        self._unmarked.clear()
        for partition, offset in offsets.items():
            if partition in self._astray:
                self._note_jump(partition, offset, anew=self._astray.pop(partition))
                marks[partition] = offset
            self._consumer.seek(partition, offset)
            self._cursor.fix(partition, offset)
        if marks and self._reading.grouped:
            with suppress(TimeoutError):  # the owner's next commit says the same
                async with asyncio.timeout(_COMMITTED_WITHIN):
                    await self._consumer.commit(marks)

    async def _offsets(self, partitions: frozenset[Partition]) -> dict[Partition, int]:
        at_end = self._reading.what.start is Start.END
        # A group that reads everything stands ahead of what it is done with: it commits the marks
        # of what is open. Without any, where it stood would pass over that.
        from_start = self._reading.grouped and not at_end
        offsets: dict[Partition, int] = {}
        if astray := partitions & self._astray.keys():
            offsets |= await self._of_astray(astray)
        for partition in partitions - astray:
            known = await self._consumer.committed(partition)
            if known is None and not from_start:
                known = self._cursor.remembered(partition)
            if known is not None:
                offsets[partition] = known
        rest = partitions - offsets.keys()
        last = {each for each in rest if at_end and each.topic not in self._anew}
        self._unmarked = last
        for ask, of in ((self._consumer.ends, last), (self._consumer.begins, rest - last)):
            offsets |= await ask(of) if of else {}
        return offsets

    async def _of_astray(self, partitions: frozenset[Partition]) -> dict[Partition, int]:
        """Where we stood, if that is there again, else the oldest record that is kept."""
        identities = await self._consumer.identities({each.topic for each in partitions})
        for topic, identity in identities.items():
            self.topic_is_back(topic, identity)
        begins = await self._consumer.begins(partitions)
        ends = await self._consumer.ends(partitions)
        offsets = {}
        for each in partitions:
            stood = self._cursor.remembered(each)
            there = stood is not None and begins[each] <= stood <= ends[each]
            keeps = there and not self._astray.get(each, False)
            offsets[each] = stood if keeps and stood is not None else begins[each]
        return offsets

    def _note_jump(self, partition: Partition, to: int, *, anew: bool) -> None:
        at = self._cursor.remembered(partition)
        if at is None or at == to:
            return
        self.jumped += 1
        _log.error(
            "reader.jumped",
            topic=partition.topic,
            partition=partition.number,
            at=at,
            to=to,
            count=max(0, to - at),
            anew=anew,
        )


def not_allowed(reading: Reading, error: KafkaError) -> BrokerError:
    """What to tell a person whose member may not read."""
    return BrokerError(
        f"reading {reading} is not allowed ({type(error).__name__}): give this member's user the "
        "right to read these topics and to join this group."
    )
