"""A log that begins later than a reader stands: its position follows, though no record came."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from fi_stream.clock import SystemClock
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Group, Outgoing, Partition, Start


@pytest.mark.kafka
async def test_a_commit_below_what_is_kept_is_no_reason_to_wait_for_ever(
    apache_broker: str,
) -> None:
    topic = f"test.{uuid4().hex}"
    here = Partition(topic, 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
        async with KafkaTransport(Connection.to(apache_broker), SystemClock()) as transport:
            await transport.publish([Outgoing(here, b"key", b"old")] * 5)
            what = Group(f"g.{topic}", (topic,), Start.BEGINNING)
            async with transport.reader(what) as reader:
                while not await reader.poll(0.2, 1):
                    pass
                await reader.commit({here: 1})
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(5)})
            async with transport.reader(what) as reader, asyncio.timeout(15):
                while (await reader.starts()).get(here) != 5:
                    assert await reader.poll(0.1) == []
                assert await reader.ends([here]) == {here: 5}
                assert reader.jumped == 1
                await transport.publish([Outgoing(here, b"key", b"new")])
                records = []
                while not records:
                    records = await reader.poll(0.2)
                assert [record.value for record in records] == [b"new"]
    finally:
        await admin.close()
