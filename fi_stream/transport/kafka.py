"""The one adapter to Kafka, through aiokafka: Apache Kafka, and the embedded broker (DESIGN 6)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    ProducerClosed,
    UnknownTopicOrPartitionError,
)

from fi_stream.errors import BrokerError, TopicError
from fi_stream.transport.consumer import Reading
from fi_stream.transport.embedded import is_embedded
from fi_stream.transport.metadata import describe
from fi_stream.transport.outbox import Outbox
from fi_stream.transport.port import Appended, Assigned, Group, Outgoing, Partition
from fi_stream.transport.reader import KafkaReader
from fi_stream.transport.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType
    from typing import Self

    from fi_stream.clock import Clock
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.metadata import Described

_log = structlog.get_logger()

_T = TypeVar("_T")

_SAY_EVERY: Final = 5.0
_LONGEST_BACKOFF: Final = 2.0
_ONE_TRY: Final = 10.0
_RETRY: Final = 0.2
_GOODBYE: Final = 3.0


class KafkaTransport:
    """One process's connection to a Kafka broker; an async context manager.

    Args:
        connection: how to reach it.
        clock: local time.
        give_up_after: seconds to wait for a broker that is down at start.
    """

    def __init__(self, connection: Connection, clock: Clock, give_up_after: float = 60.0) -> None:
        self.connection = connection
        self._clock = clock
        self._give_up_after = give_up_after
        self._readers: list[KafkaReader] = []
        self._watching: asyncio.Task[None]
        self._watch: Watch
        self._producer: AIOKafkaProducer
        self._outbox: Outbox
        self.embedded: bool = False
        """Whether this is the embedded broker, which has no groups and no time of its own."""

    async def __aenter__(self) -> Self:
        _quiet_aiokafka()
        self._producer = await self._connect()
        bootstrap = self.connection.bootstrap
        self._watch = Watch(self._producer.client, self._clock, bootstrap, self._came_back)
        try:
            cluster = (await self.patiently(partial(self._describe, []))).cluster
            self.embedded = is_embedded(cluster)
        except BaseException:
            await _stop(self._producer)
            raise
        self._outbox = Outbox(
            self._producer,
            self._clock,
            limit=self.connection.number("message.max.bytes"),
            give_up_after=self.connection.number("delivery.timeout.ms") / 1000,
            append_time=not self.embedded,
        )
        self._watching = asyncio.create_task(self._watch.keep_looking(), name="kafka.watch")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])
        await _stop(self._producer)
        await self._outbox.close()

    @property
    def reachable(self) -> bool:
        """Whether the broker answered the last time that we looked."""
        return self._watch.reachable

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the topics in use, said to a person."""
        return self._watch.troubles

    @property
    def moved(self) -> int:
        """Partitions of the topics in use that got another leader."""
        return self._watch.moved

    @property
    def skipped(self) -> int:
        """Offsets that our readers passed over because their records could not be decoded."""
        return sum(reader.skipped for reader in self._readers)

    @property
    def jumped(self) -> int:
        """Times that a log did not go on where a reader of ours stood."""
        return sum(reader.jumped for reader in self._readers)

    async def publish(self, events: Sequence[Outgoing]) -> list[Appended]:
        """Append all, in order within a partition, and wait for every acknowledgement (acks=all).

        Returns one acknowledgement for each batch that the events went in, with the offset and the
        partition of the first of them. Cancelled, the events may or may not arrive.

        Raises:
            SendUnknown: an acknowledgement did not come in time; send the same bytes again.
            SendRefused: the broker refused.
            BrokerError: the broker is away; nothing was sent.
            TopicError: a topic or partition does not exist; nothing was sent.
            ConfigError: an event is larger than message.max.bytes; nothing was sent.
        """
        for event in events:
            known = self._watch.known(event.target.topic)
            count = known.partitions if known else await self.partition_count(event.target.topic)
            self._check_number(event.target.topic, event.target.number, count)
        self._outbox.check(events)
        return await self._outbox.send(events)

    async def partition_count(self, topic: str) -> int:
        """Partitions of a topic.

        Raises:
            TopicError: the topic is missing.
            BrokerError: the broker did not answer in time.
        """
        deadline = self._clock.monotonic() + _ONE_TRY
        while True:
            now = (await self._describe([topic])).topics[topic]
            if now.partitions and now.error is NoError:
                # So that the first send does not wait to learn of it.
                await self._producer.client.add_topic(topic)
                self._watch.use(topic, now)
                return now.partitions
            error = now.error
            # A topic made a moment ago has no leader yet.
            if error is not LeaderNotAvailableError or self._clock.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        if error is UnknownTopicOrPartitionError:
            raise TopicError(
                f"topic {topic} is missing, in broker {self.connection.bootstrap!r}. "
                "Run `fi-stream topics apply` to make it."
            )
        raise TopicError(
            f"topic {topic} cannot be used, in broker {self.connection.bootstrap!r}: "
            f"{error.__name__}. Run `fi-stream topics show` and check this member's rights."
        )

    async def patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask a broker that may have gone away since we found it, as long as we waited for it then.

        Raises:
            BrokerError: it does not answer in that time.
        """
        until = self._clock.monotonic() + self._give_up_after
        while True:
            try:
                return await ask()
            except BrokerError:
                if self._clock.monotonic() >= until:
                    raise
                await asyncio.sleep(_RETRY)

    @asynccontextmanager
    async def reader(self, what: Assigned | Group) -> AsyncIterator[KafkaReader]:
        """Open a reader; it is closed on exit.

        Raises:
            TopicError: a topic is missing.
            BrokerError: the broker could not be reached, or the group not joined, in time.
        """
        topics = what.topics if isinstance(what, Group) else {p.topic for p in what.partitions}
        counts = {
            topic: await self.patiently(partial(self.partition_count, topic))
            for topic in sorted(topics)
        }
        if isinstance(what, Assigned):
            for topic, number in what.partitions:
                self._check_number(topic, number, counts[topic])
        known = {topic: self._watch.known(topic) for topic in counts}
        identities = {topic: now.identity for topic, now in known.items() if now is not None}
        paused = isinstance(what, Group) and what.paused
        if self.embedded and isinstance(what, Group):
            everything = frozenset(
                Partition(topic, number) for topic in what.topics for number in range(counts[topic])
            )
            what = Assigned(everything, what.start)
        reading = Reading(what, paused, self.embedded, identities)
        reader = KafkaReader(self.connection, self._clock, reading)
        await reader.open(self._give_up_after)
        self._readers.append(reader)
        try:
            yield reader
        finally:
            self._readers.remove(reader)
            await reader.close()

    def _check_number(self, topic: str, number: int, count: int) -> None:
        if not 0 <= number < count:
            raise TopicError(
                f"{topic} has {count} partitions and no partition {number}, in broker "
                f"{self.connection.bootstrap!r}; nothing was sent or read. If partitions were "
                "added, start this role again."
            )

    async def _connect(self) -> AIOKafkaProducer:
        """A started producer, as soon as the broker answers."""
        started = said = self._clock.monotonic()
        delay = 0.1
        while True:
            left = started + self._give_up_after - self._clock.monotonic()
            producer = AIOKafkaProducer(**self._producer_arguments())
            try:
                async with asyncio.timeout(min(max(left, 0.1), _ONE_TRY)):
                    await producer.start()
            except (KafkaError, OSError, TimeoutError) as error:
                await _stop(producer)
                now = self._clock.monotonic()
                if now - started + delay >= self._give_up_after:
                    raise BrokerError(
                        f"no broker at {self.connection.bootstrap!r} after "
                        f"{self._give_up_after:g} s ({_reason(error)}). Start it (`fi-stream "
                        "broker` runs one for development), or correct bootstrap.servers, "
                        "security.protocol and the sasl settings in [kafka]."
                    ) from error
                if now - said >= _SAY_EVERY or said == started:
                    said = now
                    _log.warning(
                        "broker.waiting",
                        bootstrap=self.connection.bootstrap,
                        reason=_reason(error),
                        seconds=round(now - started),
                        give_up_after=self._give_up_after,
                    )
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_BACKOFF)
            except BaseException:
                await _stop(producer)
                raise
            else:
                return producer

    def _producer_arguments(self) -> dict[str, Any]:
        return {
            **self.connection.client_arguments(),
            "acks": "all",
            "linger_ms": 0,
            "compression_type": None,
            "max_batch_size": self.connection.number("message.max.bytes"),
            "request_timeout_ms": self.connection.number("delivery.timeout.ms"),
        }

    async def _describe(self, topics: list[str]) -> Described:
        """The broker's word about these topics (none: about the cluster alone)."""
        try:
            return await describe(self._producer.client, topics, create=self.embedded)
        except KafkaError as error:
            raise BrokerError(
                f"broker {self.connection.bootstrap!r} did not answer about topics "
                f"{', '.join(topics) or '(none)'}: {_reason(error)}. Is it running?"
            ) from error

    def _came_back(self, topic: str, identity: bytes | None) -> None:
        for reader in self._readers:
            reader.topic_is_back(topic, identity)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(_GOODBYE):
            await producer.stop()
    except TimeoutError:
        # The broker is away: what it never acknowledged stays unknown. stop() cannot be called
        # again, so its parts are ended here, the sender first, which still needs the others.
        await producer._sender.close()  # noqa: SLF001 -- see above
        _fail_all(producer._message_accumulator)  # noqa: SLF001 -- see above
        await producer.client.close()


def _fail_all(accumulator: Any) -> None:
    """End aiokafka's batches so that it complains of none: who sent them is told by the outbox."""
    for batch in chain.from_iterable(accumulator._batches.values()):  # noqa: SLF001 -- as in _stop
        # Else it gives an error to those that wait for its turn, and reports that there are none.
        batch.drain_ready()
        # Its end takes it out of these, where one that was sent before and waits again is not.
        accumulator._pending_batches.add(batch)  # noqa: SLF001 -- as in _stop
    accumulator.fail_all(ProducerClosed())


def _reason(error: BaseException) -> str:
    return type(error).__name__


def _quiet_aiokafka() -> None:
    """Keep its lines, several a second while a broker is away, off stderr; ours say it once."""
    logger = logging.getLogger("aiokafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
