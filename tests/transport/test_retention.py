"""A log that does not go on where a reader stands: retention, a topic made anew, no record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError
from structlog.testing import capture_logs

from fi_stream.clock import SystemClock
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Group, Outgoing, Partition, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fi_stream.transport.port import Reader

pytestmark = pytest.mark.kafka


class Log:
    """One of the two partitions of a topic of its own, and what happens to it."""

    def __init__(self, bootstrap: str, admin: AIOKafkaAdminClient) -> None:
        self.here = Partition(f"test.{uuid4().hex}", 0)
        self.group = f"g.{self.here.topic}"
        self._bootstrap = bootstrap
        self._admin = admin

    def whole(self, start: Start, *, grouped: bool) -> Group | Assigned:
        if grouped:
            return Group(self.group, (self.here.topic,), start)
        return Assigned(frozenset({self.here}), start)

    async def make(self) -> None:
        while True:  # a deletion takes a moment
            try:
                await self._admin.create_topics([NewTopic(self.here.topic, 2, 1)])
            except TopicAlreadyExistsError:
                await asyncio.sleep(0.02)
            else:
                break
        while not (await self._admin.describe_topics([self.here.topic]))[0]["partitions"]:
            pass

    async def delete(self) -> None:
        await self._admin.delete_topics([self.here.topic])

    async def delete_records(self, before: int) -> None:
        there = TopicPartition(*self.here)
        await self._admin.delete_records({there: RecordsToDelete(before)})

    async def transaction(self, *, committed: bool) -> None:
        """One record, and the control record that ends its transaction."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, transactional_id=uuid4().hex)
        await producer.start()
        try:
            await producer.begin_transaction()
            await producer.send_and_wait(self.here.topic, b"in a transaction", partition=0)
            await (producer.commit_transaction if committed else producer.abort_transaction)()
        finally:
            await producer.stop()


@pytest.fixture
async def log(apache_broker: str) -> AsyncIterator[Log]:
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_broker)
    await admin.start()
    try:
        log = Log(apache_broker, admin)
        await log.make()
        yield log
        await log.delete()
    finally:
        await admin.close()


@pytest.fixture
async def transport(apache_broker: str) -> AsyncIterator[KafkaTransport]:
    connection = Connection.of({"bootstrap.servers": apache_broker, "heartbeat.interval.ms": 200})
    async with KafkaTransport(connection, SystemClock()) as transport:
        yield transport


async def put(transport: KafkaTransport, log: Log, *values: bytes) -> None:
    await transport.publish([Outgoing(log.here, b"key", value) for value in values])


async def read_to(reader: Reader, log: Log, end: int) -> list[bytes]:
    """Read as a recovery does: until the position is there, and not until a record is."""
    values: list[bytes] = []
    async with asyncio.timeout(10):
        while (await reader.starts()).get(log.here, -1) < end:
            values += [record.value for record in await reader.poll(0.05)]
    return values


async def read(reader: Reader, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(15):
        while len(values) < count:
            values += [record.value for record in await reader.poll(0.05)]
    return values


async def nothing(transport: KafkaTransport, log: Log) -> None:
    """low = high = 0."""


async def all_deleted(transport: KafkaTransport, log: Log) -> None:
    """low = high = 5."""
    await put(transport, log, *[b"old"] * 5)
    await log.delete_records(5)


async def a_committed_transaction_last(transport: KafkaTransport, log: Log) -> None:
    await put(transport, log, b"old")
    await log.transaction(committed=True)


async def an_aborted_transaction_last(transport: KafkaTransport, log: Log) -> None:
    await put(transport, log, b"old")
    await log.transaction(committed=False)


@pytest.mark.parametrize(
    ("before", "end"),
    [
        (nothing, 0),
        (all_deleted, 5),
        (a_committed_transaction_last, 3),
        (an_aborted_transaction_last, 3),
    ],
)
@pytest.mark.parametrize("grouped", [True, False])
async def test_reading_to_the_end_ends_by_position(
    transport: KafkaTransport,
    log: Log,
    before: Callable[[KafkaTransport, Log], Awaitable[None]],
    end: int,
    grouped: bool,
) -> None:
    await before(transport, log)
    async with transport.reader(log.whole(Start.BEGINNING, grouped=grouped)) as reader:
        async with asyncio.timeout(10):  # a transaction's last record takes a moment
            while await reader.ends([log.here]) != {log.here: end}:
                pass
        assert await read_to(reader, log, end) in ([], [b"old", b"in a transaction"])
        assert reader.jumped == 0
        await put(transport, log, b"new")
        assert await read(reader, 1) == [b"new"]


async def test_an_end_below_which_all_was_deleted_meanwhile_is_reached(
    transport: KafkaTransport, log: Log
) -> None:
    await put(transport, log, *[b"old"] * 5)
    async with transport.reader(Assigned(frozenset({log.here}), Start.BEGINNING)) as reader:
        reader.pause([log.here])
        await reader.starts()
        ends = await reader.ends([log.here])
        await put(transport, log, *[b"later"] * 3, b"kept")
        await log.delete_records(8)
        reader.resume([log.here])
        await read_to(reader, log, ends[log.here])
        assert (await reader.starts())[log.here] >= 8


async def test_a_group_that_begins_at_the_end_and_dies_begins_at_that_end_again(
    transport: KafkaTransport, log: Log
) -> None:
    await put(transport, log, b"old")
    async with transport.reader(log.whole(Start.END, grouped=True)) as reader:
        await reader.starts()
    await put(transport, log, b"live")
    async with transport.reader(log.whole(Start.END, grouped=True)) as reader:
        assert await read(reader, 1) == [b"live"]


async def test_a_mark_below_what_is_kept_is_a_jump_that_is_told(
    transport: KafkaTransport, log: Log
) -> None:
    await put(transport, log, *[b"old"] * 5)
    what = log.whole(Start.BEGINNING, grouped=True)
    async with transport.reader(what) as reader:
        await read(reader, 5)
        await reader.commit({log.here: 1})
    await log.delete_records(4)
    with capture_logs() as logs:
        async with transport.reader(what) as reader:
            assert await read(reader, 1) == [b"old"]
            assert (reader.jumped, transport.jumped) == (1, 1)
    [jump] = [one for one in logs if one["event"] == "reader.jumped"]
    assert (jump["at"], jump["to"], jump["count"], jump["anew"]) == (1, 4, 3, False)


async def test_a_broker_that_is_slow_to_say_where_a_log_begins_is_waited_for(
    transport: KafkaTransport, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fetch meanwhile, for the other partition, says again that this one is out of range."""
    await put(transport, log, *[b"old"] * 5)
    async with transport.reader(log.whole(Start.BEGINNING, grouped=True)) as reader:
        reader.pause([log.here])
        await reader.starts()
        await log.delete_records(4)
        asked = reader._consumer.begins

        async def slow(partitions: frozenset[Partition]) -> dict[Partition, int]:
            await asyncio.sleep(0.3)
            return await asked(partitions)

        monkeypatch.setattr(reader._consumer, "begins", slow)
        reader.resume([log.here])
        assert await read(reader, 1) == [b"old"]
        assert reader.jumped == 1


@pytest.mark.parametrize("kept", [2, 7], ids=["shorter than before", "longer than before"])
@pytest.mark.parametrize("grouped", [True, False])
async def test_a_topic_made_anew_is_read_from_its_beginning(
    transport: KafkaTransport,
    log: Log,
    kept: int,
    grouped: bool,
) -> None:
    """Also where the new log is so long that our position is in it: nothing is passed over."""
    what = log.whole(Start.END, grouped=grouped)
    news = [b"new %d" % number for number in range(kept)]
    async with (
        transport.reader(what) as reader,
        KafkaTransport(transport.connection, SystemClock()) as other,
    ):
        await reader.starts()
        await put(transport, log, *[b"old"] * 5)
        assert await read(reader, 5) == [b"old"] * 5
        with capture_logs() as logs:
            await log.delete()
            await log.make()
            await put(other, log, *news)
            seen: list[bytes] = []
            async with asyncio.timeout(15):
                while seen[-kept:] != news:
                    seen += [record.value for record in await reader.poll(0.05)]
                    # What the owner still means of the old log must not be kept for the new one.
                    await reader.commit({log.here: 5})
        assert (await reader.starts())[log.here] == kept
        await put(other, log, b"last")
        assert await read(reader, 1) == [b"last"]
    [jump] = [one for one in logs if one["event"] == "reader.jumped"]
    # What a longer log has at our place may have been read before it was known for another.
    assert 5 <= jump["at"] <= max(5, kept)
    assert (jump["to"], jump["anew"]) == (0, True)
    if grouped:
        async with transport.reader(what) as again:
            assert (await again.starts())[log.here] == min(5, kept)
