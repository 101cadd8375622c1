"""The one Apache Kafka of all schedules: killed and started again, emptied in between."""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fi_stream.transport.catalogue import catalogue

SESSION_MS = 2_000
"""After which the broker gives a dead process's partitions away; its own minimum would be 6 s."""

SETTINGS: Final = {
    "group.min.session.timeout.ms": "1000",
    # The controller takes a killed broker back only when the session of its past life is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
"""Short sessions, the processes' and the broker's own."""

_SERVES_WITHIN = 40.0


async def empty(bootstrap: str) -> None:
    """Delete what earlier schedules left, so that few read it again.

    A killed broker may forget that it deleted it: then it is refused, as any stranger's events.
    """
    partitions = _partitions()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        await admin.start()
        ends = await consumer.end_offsets(partitions)
        await admin.delete_records({p: RecordsToDelete(end) for p, end in ends.items() if end})
    finally:
        await admin.close()
        await consumer.stop()


async def serves(bootstrap: str) -> None:
    """Wait until a broker that has just started leads its partitions, and its groups.

    It says that it is up some seconds before, on a machine that is busy.

    Raises:
        TimeoutError: it does not in time.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id="crash", enable_auto_commit=False
    )
    async with asyncio.timeout(_SERVES_WITHIN):
        await consumer.start()
        try:
            partitions = _partitions()
            await consumer.end_offsets(partitions)
            await consumer.committed(partitions[0])
        finally:
            await consumer.stop()


def _partitions() -> list[TopicPartition]:
    topics = catalogue()
    shared = (*topics.sharing, topics.keys)
    return [TopicPartition(t.name, n) for t in shared for n in range(t.partitions)]
