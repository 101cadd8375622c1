"""What this member's user may do with topics and groups, as the broker itself says.

Metadata version 8 carries it (KIP-430), which the client library does not ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from fi_stream.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fi_stream.transport.connection import Connection

READ: Final = 1 << 3
WRITE: Final = 1 << 4
DESCRIBE: Final = 1 << 8
"""Kafka's operations, as bits."""

_NOT_TOLD: Final = -(2**31)
_VERSION: Final = 8


async def rights(
    connection: Connection, topics: Sequence[str], group: str | None
) -> dict[str, int]:
    """The operations that are allowed on these topics, and on the group, by name.

    What the broker does not tell is left out.

    Raises:
        BrokerError: the broker did not answer.
    """
    client = AIOKafkaAdminClient(**connection.client_arguments())
    try:
        await client.start()
        answer = await client._send_request(_WithRights(topics))  # noqa: SLF001 -- none is public
        told = {
            name: 0 if code == TopicAuthorizationFailedError.errno else allowed
            for code, name, _, _, allowed in answer.topics
            if code in (0, TopicAuthorizationFailedError.errno)
        }
        if group is not None:
            told |= await _of_group(client, group)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    except KafkaError as error:
        raise BrokerError(
            f"broker {connection.bootstrap!r} did not say what this member may do "
            f"({type(error).__name__}). Is it running?"
        ) from error
    finally:
        await client.close()
    return {name: allowed for name, allowed in told.items() if allowed != _NOT_TOLD}


async def _of_group(client: AIOKafkaAdminClient, group: str) -> Mapping[str, int]:
    """Nothing if we may see the group: the client library cannot read what else the broker says."""
    try:
        await client.find_coordinator(group)
    except GroupAuthorizationFailedError:
        return {group: 0}
    except KafkaError:
        pass  # a new cluster has no coordinator before its first group
    return {}


class _Answer(Response):  # type: ignore[misc] # aiokafka asks for the class
    API_KEY: ClassVar[int] = 3
    API_VERSION: ClassVar[int] = _VERSION
    SCHEMA: ClassVar[Schema] = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _Question(RequestStruct):  # type: ignore[misc] # the same
    API_KEY: ClassVar[int] = 3
    API_VERSION: ClassVar[int] = _VERSION
    RESPONSE_TYPE: ClassVar[type[Response]] = _Answer
    SCHEMA: ClassVar[Schema] = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _WithRights(Request[_Question]):  # type: ignore[misc] # the same
    API_KEY: ClassVar[int] = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_Question]) -> Any:
        return request_struct_class(self._topics, False, False, True)
