"""What a broker says of topics now: their partitions, and the identity that each was made with.

A topic that is deleted and made again under its name has another identity: only that tells, when
its offsets look as before. aiokafka's own request is older than identities (Kafka 2.8), so the
newer form is here; brokers that do not know it are asked in the older one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

    from aiokafka.client import AIOKafkaClient

_NONE: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class TopicNow:
    """One topic as the broker describes it.

    `leaders` are the brokers that lead its partitions, in their order, `identity` is None where
    brokers give none.
    """

    error: type[KafkaError]
    leaders: tuple[int, ...]
    identity: bytes | None

    @property
    def partitions(self) -> int:
        """How many it has."""
        return len(self.leaders)


@dataclass(frozen=True, slots=True)
class Described:
    """A broker's answer."""

    cluster: str | None
    topics: dict[str, TopicNow]


async def describe(
    client: AIOKafkaClient, topics: Sequence[str], *, create: bool = False
) -> Described:
    """Ask any broker of the cluster that answers.

    Args:
        client: started.
        topics: about these; about the cluster alone, when there are none.
        create: whether the broker may make those that are missing.

    Raises:
        KafkaError: none answered.
    """
    request = _TopicsRequest(topics, create=create)
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    failed: KafkaError = NodeNotReadyError("no broker is known")
    for node in nodes:
        try:
            # On another connection: an answer must not wait behind a send that waits for replicas.
            answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        except KafkaError as error:
            failed = error
        else:
            return Described(answer.cluster_id, dict(map(_topic, answer.topics)))
    raise failed


def _topic(told: tuple[Any, ...]) -> tuple[str, TopicNow]:
    if len(told) == 4:
        code, name, _, partitions = told
        identity = _NONE
    else:
        code, name, identity, _, partitions, *_ = told
    leaders = {number: leader for _, number, leader, *_ in partitions}
    in_order = tuple(leaders[number] for number in sorted(leaders))
    return name, TopicNow(for_code(code), in_order, None if identity == _NONE else identity)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc] # aiokafka asks for the class
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _TopicsResponse(Response):  # type: ignore[misc] # as above
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicsRequestV10(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicsRequest(Request[MetadataRequest_v5 | _TopicsRequestV10]):  # type: ignore[misc] # as above
    API_KEY = 3

    def __init__(self, topics: Sequence[str], *, create: bool) -> None:
        self._topics = topics
        self._create = create

    def build(self, form: type[RequestStruct]) -> RequestStruct:
        if form is _TopicsRequestV10:
            return form(
                [(_NONE, topic, {}) for topic in self._topics], self._create, False, False, {}
            )
        return form(list(self._topics), self._create)
