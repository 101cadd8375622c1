"""What the rest of the library asks of a broker (DESIGN 6); nothing above here knows Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from fi_stream.values import BrokerMillis, Instant


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One event as the broker keeps it."""

    source: Partition
    offset: int
    at: BrokerMillis
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event to append; `headers` are for people's tools only."""

    target: Partition
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """The broker's acknowledgement of the events that went into one batch.

    `target` and `offset` are of the first of them, `sent` is local; `at` is None on a broker
    without append time.
    """

    target: Partition
    offset: int
    sent: Instant
    at: BrokerMillis | None


class Start(Enum):
    """Where a reader begins on a partition for which nothing was committed."""

    BEGINNING = "beginning"
    END = "end"


@dataclass(frozen=True, slots=True)
class Assigned:
    """Read exactly these partitions; nothing is committed."""

    partitions: frozenset[Partition]
    start: Start


@dataclass(frozen=True, slots=True)
class Group:
    """Share the partitions of `topics` with the other readers of this group.

    With `paused`, newly assigned partitions stay paused until the reader's owner resumes them.
    On a broker without groups (the embedded one) the reader gets every partition.
    """

    name: str
    topics: tuple[str, ...]
    start: Start
    paused: bool = False


class Reader(Protocol):
    """Reads records in order; a record counts as read once `poll` returned it."""

    @property
    def skipped(self) -> int:
        """Offsets passed over because their records could not be decoded."""

    @property
    def jumped(self) -> int:
        """Times that a log did not go on where this reader stood: retention, a topic made anew."""

    async def poll(self, wait: float, most: int = 500) -> list[Record]:
        """At most `most` records, as soon as there is one; empty after `wait` seconds."""

    def assignment_changed(self) -> frozenset[Partition] | None:
        """The whole new assignment, once after each change; None when nothing changed since."""

    async def starts(self) -> Mapping[Partition, int]:
        """The position of every assigned partition; waits until each is fixed."""

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The offset after the last record, asked of the broker now, in one call."""

    async def seek_to_time(self, partitions: Iterable[Partition], at: BrokerMillis) -> None:
        """Go to the first record appended at or after `at` (the beginning, without append time)."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Return nothing of these until they are resumed."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Return records of these again."""

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Keep, for the group, the next offset to read; a no-op on brokers without groups.

        One that fails is logged, and no error: the next one carries the same or more.
        """


class Transport(Protocol):
    """One process's connection to the broker."""

    @property
    def reachable(self) -> bool:
        """Whether the broker answered the last time that we looked."""

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the topics in use, said to a person."""

    @property
    def moved(self) -> int:
        """Partitions of the topics in use that got another leader."""

    @property
    def skipped(self) -> int:
        """Offsets that our readers passed over because their records could not be decoded."""

    @property
    def jumped(self) -> int:
        """Times that a log did not go on where a reader of ours stood."""

    async def publish(self, events: Sequence[Outgoing]) -> list[Appended]:
        """Append all, in order within a partition, and wait for every acknowledgement (acks=all).

        Raises:
            SendUnknown: an acknowledgement did not come in time; send the same bytes again.
            SendRefused: the broker refused.
            BrokerError: the broker is away; nothing was sent.
            TopicError: a topic or partition does not exist; nothing was sent.
            ConfigError: an event is larger than message.max.bytes; nothing was sent.
        """

    async def partition_count(self, topic: str) -> int:
        """Partitions of a topic; raises TopicError when it is missing."""

    def reader(self, what: Assigned | Group) -> AbstractAsyncContextManager[Reader]:
        """Open a reader; it is closed on exit."""
