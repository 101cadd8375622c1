"""Topics as a broker has them: described, made, widened, set (aiokafka's admin client)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from fi_stream.errors import BrokerError, TopicError
from fi_stream.transport.embedded import is_embedded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from fi_stream.transport.catalogue import Topic
    from fi_stream.transport.connection import Connection

_log = structlog.get_logger()

_WITHIN: Final = 20.0
_MOST_REPLICAS: Final = 3
_SET_ON_TOPIC: Final = 1
"""Kafka's config source of a setting that was made on the topic itself."""


@dataclass(frozen=True)
class Observed:
    """One topic on the broker; `settings` is None where the broker does not tell."""

    partitions: int
    settings: Mapping[str, str] | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    """Settings that were made on the topic itself, the others come from the broker's defaults."""

    def fits(self, topic: Topic) -> bool:
        """Whether the topic is as the catalogue says, as far as the broker tells."""
        return self.partitions == topic.partitions and (
            self.settings is None or topic.settings.items() <= self.settings.items()
        )


class TopicAdmin:
    """A broker's topics; open it with `topic_admin`."""

    def __init__(self, client: AIOKafkaAdminClient, *, embedded: bool, brokers: int) -> None:
        self._client = client
        self.embedded = embedded
        self._replicas = min(_MOST_REPLICAS, brokers)

    async def observe(self, names: Sequence[str]) -> dict[str, Observed]:
        """The topics of these that exist, with their settings when we may see them."""
        known = await self._client.describe_topics()
        counts = {
            topic["topic"]: len(topic["partitions"]) for topic in known if topic["topic"] in names
        }
        if self.embedded or not counts:
            return {name: Observed(count) for name, count in counts.items()}
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]
        observed = {}
        for answer in await self._client.describe_configs(asked):
            for code, _, _, name, entries, *_ in answer.resources:
                if code:
                    _log.info("topics.settings_hidden", topic=name, reason=for_code(code).__name__)
                    observed[name] = Observed(counts[name])
                    continue
                settings = {key: value for key, value, *_ in entries}
                own = {
                    key: value for key, value, _, source, *_ in entries if source == _SET_ON_TOPIC
                }
                observed[name] = Observed(counts[name], settings, own)
        return observed

    async def make(self, topic: Topic) -> None:
        """Make a topic as the catalogue says, with up to three replicas."""
        new = NewTopic(
            topic.name, topic.partitions, self._replicas, topic_configs=dict(topic.settings)
        )
        answer = await self._client.create_topics([new])
        for _, code, reason in answer.topic_errors:
            # Another `topics apply` may have been quicker.
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise _refused(f"make {topic.name}", code, reason)

    async def widen(self, name: str, partitions: int) -> None:
        """Add partitions up to this count."""
        await self._client.create_partitions({name: NewPartitions(partitions)})

    async def set(self, name: str, settings: Mapping[str, str]) -> None:
        """Make exactly these settings on the topic itself."""
        resource = ConfigResource(ConfigResourceType.TOPIC, name, dict(settings))
        for answer in await self._client.alter_configs([resource]):
            for code, reason, *_ in answer.resources:
                if code:
                    raise _refused(f"set {name}", code, reason)

    async def settled(self, topics: Iterable[Topic]) -> None:
        """Wait until the broker shows these topics as they are wanted; it takes a moment."""
        wanted = {topic.name: topic for topic in topics}
        async with asyncio.timeout(_WITHIN):
            while True:
                seen = await self.observe(list(wanted))
                if all(name in seen and seen[name].fits(wanted[name]) for name in wanted):
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def topic_admin(connection: Connection) -> AsyncIterator[TopicAdmin]:
    """Administer the topics of a broker.

    Raises:
        BrokerError: the broker did not answer in time, here or inside the block.
    """
    client = AIOKafkaAdminClient(**connection.client_arguments())
    try:
        async with asyncio.timeout(_WITHIN):
            await client.start()
            cluster: dict[str, Any] = await client.describe_cluster()
        yield TopicAdmin(
            client,
            embedded=is_embedded(cluster["cluster_id"]),
            brokers=len(cluster["brokers"]),
        )
    except (KafkaError, TimeoutError) as error:
        raise BrokerError(
            f"broker {connection.bootstrap!r} did not do as asked about topics "
            f"({type(error).__name__}: {error}). Is it running, is bootstrap.servers right, and "
            "may this member manage topics?"
        ) from error
    finally:
        await client.close()


def _refused(what: str, code: int, reason: str | None) -> TopicError:
    return TopicError(
        f"the broker refused to {what}: {reason or for_code(code).__name__}. "
        "Check this member's rights and topics/catalogue.toml."
    )
