"""The one Apache Kafka of all schedules: killed and started again, emptied in between."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from fi_stream.transport.apache import ApacheBroker

SESSION_MS = 2_000
"""After which the broker gives a dead process's partitions away; its own minimum would be 6 s."""

_SETTINGS = """
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
"""The controller takes a killed broker back only when the session of its past life is over."""


async def prepare(broker: ApacheBroker) -> None:
    """Let sessions be short, the processes' and the broker's own, and make the topics."""
    # The file is read at each start; the data stays.
    broker.stop()
    with (_home(broker) / "server.properties").open("a", encoding="utf-8") as properties:
        properties.write(_SETTINGS)
    broker.start()
    await apply(Connection.to(broker.bootstrap))


def kill(broker: ApacheBroker) -> None:
    """`kill -9`; `start` brings it back on the same data."""
    process = broker._process  # noqa: SLF001 -- no operator kills his broker so, and a user cannot
    if process is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a group of its own, with the shell above it
        broker.stop()


async def empty(bootstrap: str) -> None:
    """Delete what earlier schedules left, so that few read it again.

    A killed broker may forget that it deleted it: then it is refused, as any stranger's events.
    """
    topics = catalogue()
    shared = (topics.queries, topics.responses, topics.results, topics.keys)
    partitions = [TopicPartition(t.name, n) for t in shared for n in range(t.partitions)]
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


def _home(broker: ApacheBroker) -> Path:
    home = broker._home  # noqa: SLF001 -- where its properties are, which nobody else changes
    assert isinstance(home, Path), "the broker was not started"  # noqa: S101 -- for the reader
    return home
