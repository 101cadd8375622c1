"""aiokafka's consumer, set up as we need it and spoken to in the port's values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError

from fi_stream.transport.metadata import describe
from fi_stream.transport.port import Assigned, Group, Partition
from fi_stream.transport.undecodable import end_of_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fi_stream.transport.connection import Connection
    from fi_stream.values import BrokerMillis

_EMBEDDED_FETCH_WAIT: Final = 5
_FETCH_WAIT: Final = 500
_GOODBYE: Final = 3.0
_LONGEST_SLEEP: Final = 20
_SHORT: Final = 0.05


class OutOfRange(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """The logs of these partitions do not hold the offset that was asked for."""

    def __init__(self, partitions: frozenset[Partition]) -> None:
        super().__init__()
        self.partitions = partitions


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader reads, whether its partitions begin paused, and on which kind of broker.

    `identities` are those of the topics when the reader was opened.
    """

    what: Assigned | Group
    paused: bool
    embedded: bool
    identities: Mapping[str, bytes | None]

    @property
    def grouped(self) -> bool:
        """Whether the broker shares the partitions out and keeps commits."""
        return isinstance(self.what, Group)

    @property
    def topics(self) -> frozenset[str]:
        """The topics that it reads of."""
        if isinstance(self.what, Group):
            return frozenset(self.what.topics)
        return frozenset(partition.topic for partition in self.what.partitions)

    def __str__(self) -> str:
        if isinstance(self.what, Group):
            return f"{', '.join(self.what.topics)} as group {self.what.name}"
        return ", ".join(f"{topic}[{number}]" for topic, number in sorted(self.what.partitions))


class Consumer:
    """One consumer; `assigned` and `revoked` are called while it is in a group.

    Args:
        connection: how to reach the broker.
        reading: the partitions, or the group.
        assigned: told every new assignment, before a record of it can be returned.
        revoked: told when the assignment is given up.
    """

    def __init__(
        self,
        connection: Connection,
        reading: Reading,
        assigned: Callable[[Iterable[Partition]], None],
        revoked: Callable[[], None],
    ) -> None:
        self._reading = reading
        self._assigned = assigned
        self._listener = _Listener(assigned, revoked)
        self._arguments = _arguments(connection, reading)
        self._kafka: AIOKafkaConsumer

    async def start(self) -> None:
        """Connect, and join the group or take the partitions; again, after `stop`.

        Raises:
            KafkaError: the broker or the group refused.
        """
        what = self._reading.what
        self._kafka = AIOKafkaConsumer(**self._arguments)
        if isinstance(what, Group):
            self._kafka.subscribe(list(what.topics), listener=self._listener)
        elif what.partitions:
            self._kafka.assign([_theirs(partition) for partition in what.partitions])
        await self._kafka.start()
        if isinstance(what, Assigned):
            self._assigned(what.partitions)

    async def stop(self) -> None:
        """Leave the group and close; gives up on a broker that is away."""
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._kafka.stop()
        except (TimeoutError, asyncio.CancelledError) as error:
            this = asyncio.current_task()
            await self._kafka._client.close()  # noqa: SLF001 -- stop() cannot be called twice
            # While a broker is away, aiokafka lets the cancellation of its own fetch out of stop().
            if isinstance(error, asyncio.CancelledError) and this is not None and this.cancelling():
                raise

    @property
    def dead(self) -> bool:
        """Whether aiokafka's fetching task ended by an error: it would return nothing, for ever."""
        fetcher = self._kafka._fetcher  # noqa: SLF001 -- nothing public tells
        return fetcher is not None and fetcher.error_future.done()

    async def position(self, partition: Partition) -> int | None:
        """Where aiokafka stands; None while the group changes."""
        try:
            async with asyncio.timeout(_SHORT):
                position: int = await self._kafka.position(_theirs(partition))
        except (TimeoutError, IllegalStateError):
            return None
        return position

    async def fetch(
        self, wait: float, most: int, only: Partition | None = None
    ) -> dict[Partition, list[Any]]:
        """Records that have come, or come within `wait` seconds, of every unpaused partition.

        Raises:
            OutOfRange: retention, or a topic made anew, took what would come next.
            KafkaError: the broker or the group refused.
        """
        chosen = () if only is None else (_theirs(only),)
        try:
            fetched = await self._kafka.getmany(
                *chosen, timeout_ms=int(wait * 1000), max_records=most
            )
        except OffsetOutOfRangeError as error:
            raise OutOfRange(frozenset(map(_ours, error.args[0]))) from error
        return {_ours(theirs): records for theirs, records in fetched.items()}

    def seek(self, partition: Partition, offset: int) -> None:
        """Go to an offset, and forget what was fetched of the partition."""
        self._kafka.seek(_theirs(partition), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing of these."""
        self._kafka.pause(*self._still_assigned(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch of these again."""
        self._kafka.resume(*self._still_assigned(partitions))

    async def committed(self, partition: Partition) -> int | None:
        """The group's committed offset."""
        if not isinstance(self._reading.what, Group):
            return None
        offset: int | None = await self._kafka.committed(_theirs(partition))
        return offset

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Keep offsets for the group.

        Raises:
            KafkaError: the group changed, or the broker refused.
        """
        await self._kafka.commit(
            {
                _theirs(partition): OffsetAndMetadata(offset, "")
                for partition, offset in offsets.items()
            }
        )

    async def begins(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset of the oldest record that is kept."""
        found = await self._kafka.beginning_offsets([_theirs(each) for each in partitions])
        return {_ours(theirs): offset for theirs, offset in found.items()}

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset after the newest record."""
        found = await self._kafka.end_offsets([_theirs(each) for each in partitions])
        return {_ours(theirs): offset for theirs, offset in found.items()}

    async def at_time(
        self, partitions: Iterable[Partition], at: BrokerMillis
    ) -> dict[Partition, int]:
        """The offset of the first record appended at or after `at`; absent when there is none."""
        found = await self._kafka.offsets_for_times({_theirs(each): at for each in partitions})
        return {_ours(theirs): each.offset for theirs, each in found.items() if each is not None}

    async def identities(self, topics: Iterable[str]) -> dict[str, bytes | None]:
        """The identities of those of these topics that are there."""
        told = await describe(self._kafka._client, list(topics))  # noqa: SLF001 -- as below
        return {topic: now.identity for topic, now in told.topics.items() if now.partitions}

    def look_at_topics(self) -> None:
        """Have aiokafka learn now what topics there are, which it else does every few minutes."""
        self._kafka._client.force_metadata_update()  # noqa: SLF001 -- nothing public does

    async def end_of_batch(self, partition: Partition, offset: int) -> int:
        """Where the batch at `offset` ends."""
        client = self._kafka._client  # noqa: SLF001 -- a second client would need a second login
        return await end_of_batch(
            client, _theirs(partition), offset, self._arguments["max_partition_fetch_bytes"]
        )

    def _still_assigned(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        assignment = self._kafka.assignment()
        return [each for each in map(_theirs, partitions) if each in assignment]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka asks for the class
    """Passes a group's changes on; heartbeats stop while it runs, so it waits for nothing."""

    def __init__(
        self, assigned: Callable[[Iterable[Partition]], None], revoked: Callable[[], None]
    ) -> None:
        self._assigned = assigned
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if revoked:
            self._revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned([_ours(each) for each in assigned])


def _arguments(connection: Connection, reading: Reading) -> dict[str, Any]:
    embedded = reading.embedded
    wait = connection.numbers["fetch.wait.max.ms"] or _FETCH_WAIT
    return {
        **connection.client_arguments(),
        "group_id": reading.what.name if isinstance(reading.what, Group) else None,
        "enable_auto_commit": False,
        # Positions are always set by us, also where a log does not go on: nobody else would say so.
        "auto_offset_reset": "none",
        "isolation_level": "read_uncommitted",
        # An aggregator's three topics must be shared out alike; aiokafka's default deals them.
        "partition_assignment_strategy": (RangePartitionAssignor,),
        # New data does not wake a waiting fetch of the embedded broker.
        "fetch_max_wait_ms": _EMBEDDED_FETCH_WAIT if embedded else wait,
        # A seek at the moment in which a position was reset leaves aiokafka's fetcher asleep for
        # this long, 200 ms if nobody says otherwise: the first result would wait for it.
        "consumer_timeout_ms": _LONGEST_SLEEP,
        "fetch_min_bytes": connection.number("fetch.min.bytes"),
        "fetch_max_bytes": connection.number("fetch.max.bytes"),
        "max_partition_fetch_bytes": connection.number("max.partition.fetch.bytes"),
        "request_timeout_ms": connection.number("socket.timeout.ms"),
        "session_timeout_ms": connection.number("session.timeout.ms"),
        "heartbeat_interval_ms": connection.number("heartbeat.interval.ms"),
        "max_poll_interval_ms": connection.number("max.poll.interval.ms"),
    }


def _theirs(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)


def _ours(partition: TopicPartition) -> Partition:
    return Partition(partition.topic, partition.partition)
