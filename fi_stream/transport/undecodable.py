"""Where a batch ends that the client library cannot decode, read from its header alone.

A bad checksum, a codec that is not installed, a header key that is not UTF-8: any producer can
write these, and the library would fail at them for ever. The batch's header says how far to skip.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from aiokafka.client import ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest

if TYPE_CHECKING:
    from aiokafka import TopicPartition
    from aiokafka.client import AIOKafkaClient

_BASE_OFFSET_AND_LENGTH: Final = struct.Struct(">qi")
_LAST_OFFSET_DELTA: Final = struct.Struct(">i")
_DELTA_AT: Final = 23
_HEADER: Final = 61
_READ_UNCOMMITTED: Final = 0


async def end_of_batch(
    client: AIOKafkaClient, source: TopicPartition, offset: int, fetch_bytes: int
) -> int:
    """The first offset after the batch that holds `offset`; `offset` + 1 if even its header is bad.

    Raises:
        KafkaError: the broker did not answer.
    """
    leader = client.cluster.leader_for_partition(source)
    request = FetchRequest(
        0,
        1,
        fetch_bytes,
        _READ_UNCOMMITTED,
        [(source.topic, [(source.partition, offset, fetch_bytes)])],
        rack_id="",
    )
    # On another connection: a broker answers in order, and a waiting fetch would hold this one.
    response = await client.send(leader, request, group=ConnectionGroup.COORDINATION)
    for _, partitions in response.topics:
        for *_, records in partitions:
            return _end(bytes(records or b""), offset)
    return offset + 1


def _end(records: bytes, offset: int) -> int:
    if len(records) < _HEADER:
        return offset + 1
    base, _ = _BASE_OFFSET_AND_LENGTH.unpack_from(records)
    (delta,) = _LAST_OFFSET_DELTA.unpack_from(records, _DELTA_AT)
    end: int = base + delta + 1
    # A header that does not cover the offset is itself not to be believed.
    return end if base <= offset < end else offset + 1
