"""What every transport must do, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.record.util import calc_crc32c

from fi_stream.clock import SystemClock
from fi_stream.errors import BrokerError, ConfigError, SendUnknown, TopicError
from fi_stream.transport.catalogue import Topic, catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.consumer import Consumer
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Group, Outgoing, Partition, Start
from fi_stream.transport.topic_admin import topic_admin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from fi_stream.transport.port import Appended, Reader, Record

    MakeTopic = Callable[..., Awaitable[str]]

PARTITIONS = 4


def event(topic: str, number: int, value: bytes, key: bytes = b"key") -> Outgoing:
    return Outgoing(Partition(topic, number), key, value)


def all_of(topic: str) -> frozenset[Partition]:
    return frozenset(Partition(topic, number) for number in range(PARTITIONS))


def values(records: Iterable[Record]) -> list[bytes]:
    return [record.value for record in records]


async def read(reader: Reader, count: int, within: float = 10.0) -> list[Record]:
    """Poll until `count` records came; no more may come with them."""
    records: list[Record] = []
    async with asyncio.timeout(within):
        while len(records) < count:
            records += await reader.poll(0.2)
    return records


@asynccontextmanager
async def transport_to(bootstrap: str, **settings: object) -> AsyncIterator[KafkaTransport]:
    connection = Connection.of({"bootstrap.servers": bootstrap, **settings})
    async with KafkaTransport(connection, SystemClock(), give_up_after=15) as transport:
        yield transport


async def put_undecodable(bootstrap: str, target: Partition, records: int) -> None:
    """Append a batch as no decoder of Python's takes it: header keys that are not UTF-8."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        for _ in range(records):
            batch.append(timestamp=None, key=None, value=b"evil", headers=[("zzzz", b"")])
        data = batch._build()
        data[:] = data.replace(b"zzzz", b"\xff\xff\xff\xff")
        struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
        sent = await producer.send_batch(batch, target.topic, partition=target.number)
        await sent
    finally:
        await producer.stop()


class TransportContract:
    """Laws of the port; a subclass gives `bootstrap`, an open `transport`, and a fresh `topic`."""

    append_time: bool

    async def test_records_come_back_byte_for_byte_and_in_order(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        sent = [
            Outgoing(
                Partition(topic, number % PARTITIONS),
                bytes([number]),
                bytes(range(number, 256)),
                (("type", b"query"), ("größe", b"\x00\xff"), ("empty", b"")),
            )
            for number in range(100)
        ]
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            await transport.publish(sent)
            records = await read(reader, len(sent))
        for source in all_of(topic):
            ours = [one for one in sent if one.target == source]
            theirs = [one for one in records if one.source == source]
            assert [(one.key, one.value, one.headers) for one in theirs] == [
                (one.key, one.value, one.headers) for one in ours
            ]
            assert [one.offset for one in theirs] == list(range(len(ours)))

    async def test_an_acknowledgement_names_the_first_event_it_covers(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, 1, b"before")])
        before = SystemClock().monotonic()
        acks = await transport.publish(
            [event(topic, 1, b"a"), event(topic, 0, b"b"), event(topic, 1, b"c")]
        )
        assert [(ack.target.number, ack.offset) for ack in acks] == [(1, 1), (0, 0)]
        assert all(before <= ack.sent <= SystemClock().monotonic() for ack in acks)

    async def test_append_time_is_the_brokers_or_unknown(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        [ack] = await transport.publish([event(topic, 0, b"x")])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            [record] = await read(reader, 1)
        assert abs(record.at - SystemClock().wall()) < 60_000
        assert ack.at == (record.at if self.append_time else None)

    async def test_many_small_sends_at_once_arrive_once_each_and_each_in_order(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        async def sender(name: int) -> list[Appended]:
            acks = []
            for step in range(20):
                [ack] = await transport.publish([event(topic, name % 2, b"%d %d" % (name, step))])
                acks.append(ack)
            return acks

        acks = await asyncio.gather(*(sender(name) for name in range(30)))
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            records = await read(reader, 600)
        by_place = {(one.source, one.offset): one.value for one in records}
        for name, own in enumerate(acks):
            assert [by_place[ack.target, ack.offset] for ack in own] == [
                b"%d %d" % (name, step) for step in range(20)
            ]

    async def test_more_than_one_batch_holds_is_split(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        sent = [event(topic, 2, bytes([number]) * 150_000) for number in range(20)]
        acks = await transport.publish(sent)
        assert len(acks) > 1
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            assert values(await read(reader, 20)) == values_of(sent)

    async def test_an_event_over_the_limit_is_refused_before_anything_is_sent(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"message\.max\.bytes = 1,000,000"):
            await transport.publish([event(topic, 0, b"small"), event(topic, 0, b"x" * 1_000_000)])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            assert set((await reader.ends(all_of(topic))).values()) == {0}

    async def test_a_partition_that_is_not_there_is_refused(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        with pytest.raises(TopicError, match="has 4 partitions and no partition 4"):
            await transport.publish([event(topic, 4, b"x")])

    async def test_reading_a_partition_that_is_not_there_is_refused(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        with pytest.raises(TopicError, match="has 4 partitions and no partition 9"):
            async with transport.reader(Assigned(frozenset({Partition(topic, 9)}), Start.END)):
                pass

    async def test_starting_at_the_end_reads_only_what_comes_later(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, number, b"old") for number in (0, 0, 1)])
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            starts = await reader.starts()
            assert {where.number: offset for where, offset in starts.items()} == {
                0: 2,
                1: 1,
                2: 0,
                3: 0,
            }
            await transport.publish([event(topic, number, b"new") for number in (0, 1, 2)])
            assert values(await read(reader, 3)) == [b"new"] * 3
            assert await reader.poll(0.1) == []

    async def test_ends_are_those_of_now(self, transport: KafkaTransport, topic: str) -> None:
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            for count in (1, 2):
                await transport.publish([event(topic, 3, b"x")])
                ends = await reader.ends([Partition(topic, 3), Partition(topic, 0)])
                assert ends == {Partition(topic, 3): count, Partition(topic, 0): 0}

    async def test_the_first_assignment_is_told_once(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            assert reader.assignment_changed() == all_of(topic)
            assert reader.assignment_changed() is None

    async def test_seeking_to_a_time_returns_what_was_appended_since(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, 0, b"early"), event(topic, 1, b"early")])
        await asyncio.sleep(0.05)  # the broker's clock must move between the two
        since = SystemClock().wall()
        await transport.publish([event(topic, 0, b"late")])
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            await reader.starts()
            await reader.seek_to_time(all_of(topic), since)
            expected = [b"late"] if self.append_time else [b"early", b"early", b"late"]
            assert sorted(values(await read(reader, len(expected)))) == expected
            await transport.publish([event(topic, 1, b"later")])
            assert values(await read(reader, 1)) == [b"later"]

    async def test_a_paused_partition_keeps_its_records_for_later(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        held, free = Partition(topic, 0), Partition(topic, 1)
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            await reader.starts()
            reader.pause([held, Partition("elsewhere", 0)])
            await transport.publish([event(topic, number, b"x") for number in (0, 1, 0)])
            assert [one.source for one in await read(reader, 1)] == [free]
            assert await reader.poll(0.2) == []
            reader.resume([held])
            assert [(one.source, one.offset) for one in await read(reader, 2)] == [
                (held, 0),
                (held, 1),
            ]

    async def test_pausing_everything_returns_nothing_until_one_is_resumed(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, number, b"x") for number in range(PARTITIONS)])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            await reader.starts()
            reader.pause(all_of(topic))
            for _ in range(3):
                assert await reader.poll(0.1) == []
            asyncio.get_running_loop().call_later(0.1, reader.resume, [Partition(topic, 2)])
            assert [one.source.number for one in await read(reader, 1)] == [2]
            assert await reader.poll(0.1) == []

    async def test_poll_returns_at_most_what_was_asked_for(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, number % 4, b"%d" % number) for number in range(40)])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            seen: list[Record] = []
            while len(seen) < 40:
                some = await reader.poll(1.0, most=7)
                assert len(some) <= 7
                seen += some
        assert len({(one.source, one.offset) for one in seen}) == 40

    async def test_a_batch_that_cannot_be_decoded_costs_no_other_record(
        self, bootstrap: str, transport: KafkaTransport, topic: str
    ) -> None:
        async def put_good(name: bytes) -> None:
            await transport.publish(
                [event(topic, number % 4, name + b"%d" % number) for number in range(40)]
            )

        await put_good(b"before ")
        await put_undecodable(bootstrap, Partition(topic, 1), 5)
        await put_good(b"after ")
        await put_undecodable(bootstrap, Partition(topic, 1), 1)
        await put_undecodable(bootstrap, Partition(topic, 2), 2)
        await put_good(b"last ")
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            records = await read(reader, 120)
            assert await reader.poll(0.1) == []
            assert reader.skipped == 8
        for source in all_of(topic):
            assert values(one for one in records if one.source == source) == [
                name + b"%d" % number
                for name in (b"before ", b"after ", b"last ")
                for number in range(40)
                if number % 4 == source.number
            ]

    async def test_a_fetch_that_fails_loses_no_record_of_another_partition(
        self, bootstrap: str, transport: KafkaTransport, topic: str
    ) -> None:
        # In one fetch: the library hands over partition by partition, and fails at the last.
        await transport.publish([event(topic, number % 3, b"x") for number in range(300)])
        await put_undecodable(bootstrap, Partition(topic, 3), 1)
        await transport.publish([event(topic, 3, b"x")])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            records = await read(reader, 301)
        assert len({(one.source, one.offset) for one in records}) == len(records) == 301

    async def test_a_reader_whose_client_ended_is_opened_again_where_it_stood(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        async with transport.reader(Assigned(all_of(topic), Start.END)) as reader:
            await reader.starts()
            await transport.publish([event(topic, 1, b"first")])
            assert values(await read(reader, 1)) == [b"first"]
            reader._consumer._kafka._fetcher.error_future.cancel()
            await transport.publish([event(topic, 1, b"second"), event(topic, 2, b"second")])
            assert values(await read(reader, 2)) == [b"second"] * 2
            assert reader.jumped == 0


def values_of(events: Iterable[Outgoing]) -> list[bytes]:
    return [one.value for one in events]


class TestEmbeddedTransport(TransportContract):
    append_time = False

    @pytest.fixture
    def bootstrap(self, embedded_broker: str) -> str:
        return embedded_broker

    @pytest.fixture
    async def transport(self, bootstrap: str) -> AsyncIterator[KafkaTransport]:
        async with transport_to(bootstrap) as transport:
            yield transport

    @pytest.fixture
    def topic(self) -> str:
        return f"test.{uuid4().hex}"  # the embedded broker makes it on first use

    async def test_a_group_gets_every_partition_paused_when_asked(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, 0, b"x")])
        what = Group("g", (topic,), Start.BEGINNING, paused=True)
        async with transport.reader(what) as reader:
            assert reader.assignment_changed() == all_of(topic)
            await reader.starts()
            assert await reader.poll(0.1) == []
            reader.resume(all_of(topic))
            [record] = await read(reader, 1)
            await reader.commit({record.source: record.offset + 1})

    async def test_a_send_without_acknowledgement_in_time_is_unknown_and_may_arrive(self) -> None:
        with EmbeddedBroker() as broker:
            topic = catalogue().queries.name
            async with transport_to(
                broker.bootstrap, **{"delivery.timeout.ms": 1_000}
            ) as transport:
                await transport.publish([event(topic, 0, b"first")])
                broker.set_round_trip(2_500)
                with pytest.raises(SendUnknown, match=r"fi\.queries\[0\] within 1 s"):
                    await transport.publish([event(topic, 0, b"second")])
                broker.set_round_trip(0)
                await transport.publish([event(topic, 0, b"second")])
                async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
                    arrived = values(await read(reader, 2))
        assert arrived[0] == b"first"
        assert set(arrived[1:]) == {b"second"}

    async def test_a_refusal_by_the_broker_is_no_unknown(self) -> None:
        topic = catalogue().queries.name
        produce, topic_authorization_failed = 0, 29
        with EmbeddedBroker() as broker:
            async with transport_to(broker.bootstrap) as transport:
                broker.fail_next(produce, topic_authorization_failed)
                with pytest.raises(BrokerError, match="TopicAuthorizationFailed") as caught:
                    await transport.publish([event(topic, 0, b"x")])
                assert not isinstance(caught.value, SendUnknown)

    async def test_a_broker_that_goes_away_for_a_while_is_waited_for(self) -> None:
        topic = catalogue().queries.name
        with EmbeddedBroker() as broker:
            async with (
                transport_to(broker.bootstrap) as transport,
                transport.reader(Assigned(all_of(topic), Start.END)) as reader,
            ):
                await reader.starts()
                await transport.publish([event(topic, 0, b"before")])
                assert values(await read(reader, 1)) == [b"before"]
                broker.go_down()
                assert await reader.poll(0.3) == []
                sending = asyncio.create_task(transport.publish([event(topic, 1, b"during")]))
                assert await reader.poll(0.3) == []
                assert not sending.done()
                broker.come_up()
                assert values(await read(reader, 1)) == [b"during"]
                await sending


@pytest.mark.kafka
class TestKafkaTransport(TransportContract):
    append_time = True

    @pytest.fixture
    def bootstrap(self, apache_broker: str) -> str:
        return apache_broker

    @pytest.fixture
    async def transport(self, bootstrap: str) -> AsyncIterator[KafkaTransport]:
        # Readers learn of a rebalance at their next heartbeat.
        async with transport_to(bootstrap, **{"heartbeat.interval.ms": 200}) as transport:
            yield transport

    @pytest.fixture
    async def make(self, bootstrap: str) -> AsyncIterator[MakeTopic]:
        """Makes topics, which go with the test: the broker may be somebody's own."""
        made: list[str] = []

        async def make(**settings: str) -> str:
            made.append(await make_topic(bootstrap, **settings))
            return made[-1]

        yield make
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.delete_topics(made)
        await admin.close()

    @pytest.fixture
    async def topic(self, make: MakeTopic) -> str:
        return await make()

    async def test_a_missing_topic_is_named_with_what_to_run(
        self, transport: KafkaTransport
    ) -> None:
        missing = Assigned(frozenset({Partition("test.missing", 0)}), Start.END)
        with pytest.raises(TopicError, match=r"test\.missing is missing.*fi-stream topics apply"):
            await transport.publish([event("test.missing", 0, b"x")])
        with pytest.raises(TopicError, match=r"test\.missing is missing"):
            async with transport.reader(missing):
                pass

    async def test_a_foreign_codec_does_not_stop_a_reader(
        self, make: MakeTopic, transport: KafkaTransport
    ) -> None:
        topic = await make(**{"compression.type": "zstd"})
        await transport.publish([event(topic, 0, b"compressed by the broker" * 20)])
        async with topic_admin(transport.connection) as admin:
            await admin.set(topic, {"compression.type": "uncompressed"})
            while "zstd" in str((await admin.observe([topic]))[topic].own):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await transport.publish([event(topic, 0, b"clear")])
        async with transport.reader(Assigned(all_of(topic), Start.BEGINNING)) as reader:
            assert values(await read(reader, 1)) == [b"clear"]
            assert reader.skipped == 1

    async def test_a_group_goes_on_where_it_committed(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        what = Group(f"g.{topic}", (topic,), Start.BEGINNING)
        await transport.publish([event(topic, 0, b"%d" % number) for number in range(10)])
        async with transport.reader(what) as reader:
            assert len(await read(reader, 10)) == 10
            await reader.commit({Partition(topic, 0): 4, Partition("not.ours", 0): 7})
        async with transport.reader(what) as reader:
            starts = await reader.starts()
            assert (starts[Partition(topic, 0)], starts[Partition(topic, 1)]) == (4, 0)
            assert values(await read(reader, 6)) == [b"%d" % number for number in range(4, 10)]

    async def test_a_group_without_a_commit_starts_at_the_end_when_asked(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, 0, b"old")])
        async with transport.reader(Group(f"g.{topic}", (topic,), Start.END)) as reader:
            await reader.starts()
            await transport.publish([event(topic, 0, b"new")])
            assert values(await read(reader, 1)) == [b"new"]

    async def test_two_readers_share_topics_alike_and_one_takes_over(
        self, make: MakeTopic, transport: KafkaTransport, topic: str
    ) -> None:
        other = await make()
        what = Group(f"g.{topic}", (topic, other), Start.BEGINNING)
        everything = all_of(topic) | all_of(other)
        async with transport.reader(what) as first:
            assert first.assignment_changed() == everything
            async with transport.reader(what) as second:
                await until_shared(first, second, everything)
                halves = await asyncio.gather(first.starts(), second.starts())
                for half in halves:
                    assert {one.number for one in half if one.topic == topic} == {
                        one.number for one in half if one.topic == other
                    }
            while first.assignment_changed() != everything:
                await first.poll(0.1)

    async def test_a_group_is_shared_out_while_the_broker_does_not_say_where_to_begin(
        self, transport: KafkaTransport, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Heartbeats stop while an assignment is taken in: that waits for no answer."""

        async def never(_consumer: Consumer, _partition: Partition) -> int:
            await asyncio.Event().wait()
            return 0

        monkeypatch.setattr(Consumer, "committed", never)
        what = Group(f"g.{topic}", (topic,), Start.BEGINNING)
        async with transport.reader(what) as first:
            assert first.assignment_changed() == all_of(topic)
            async with transport.reader(what) as second:
                await until_shared(first, second, all_of(topic))

    async def test_after_a_rebalance_pauses_are_as_the_owner_left_them(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        what = Group(f"g.{topic}", (topic,), Start.BEGINNING)
        async with transport.reader(what) as first:
            await first.starts()
            first.pause(all_of(topic))
            async with transport.reader(what) as second:
                await until_shared(first, second, all_of(topic))
                await first.starts()
                await second.starts()
                await transport.publish([event(topic, number, b"x") for number in range(4)])
                assert len(await read(second, 2)) == 2
                assert await first.poll(0.3) == []
                first.resume(all_of(topic))
                assert len(await read(first, 2)) == 2

    async def test_a_paused_group_returns_nothing_until_each_assignment_is_resumed(
        self, transport: KafkaTransport, topic: str
    ) -> None:
        await transport.publish([event(topic, number, b"x") for number in range(4)])
        what = Group(f"g.{topic}", (topic,), Start.BEGINNING, paused=True)
        async with transport.reader(what) as first:
            await first.starts()
            assert await first.poll(0.2) == []
            first.resume(all_of(topic))
            assert len(await read(first, 4)) == 4
            async with transport.reader(what) as second:
                mine = await until_shared(first, second, all_of(topic))
                await transport.publish([event(topic, number, b"y") for number in range(4)])
                assert await first.poll(0.3) == []
                assert await second.poll(0.3) == []
                first.resume(mine)
                # Nothing was committed: what was read before comes again, as after any crash.
                assert sorted(values(await read(first, 4))) == [b"x", b"x", b"y", b"y"]


async def until_shared(
    first: Reader, second: Reader, everything: frozenset[Partition]
) -> frozenset[Partition]:
    """Poll both, as roles do, until each has a part; returns the first one's."""
    shares = [everything, frozenset[Partition]()]
    async with asyncio.timeout(20):
        while not (shares[0] and shares[1] and shares[0] | shares[1] == everything) or (
            shares[0] & shares[1]
        ):
            for place, reader in enumerate((first, second)):
                assert await reader.poll(0.05) == []
                change = reader.assignment_changed()
                shares[place] = shares[place] if change is None else change
    return shares[0]


async def make_topic(bootstrap: str, **settings: str) -> str:
    name = f"test.{uuid4().hex}"
    topic = Topic(
        name=name,
        holds="a test's records",
        partitions=PARTITIONS,
        settings={**catalogue().queries.settings, **settings},
    )
    async with topic_admin(Connection.to(bootstrap)) as admin:
        await admin.make(topic)
        await admin.settled([topic])
    return name
