"""A broker that is down at start, goes away, and comes back; on an Apache Kafka of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import structlog

from fi_stream.clock import SystemClock
from fi_stream.errors import BrokerError, SendUnknown
from fi_stream.transport import topics
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Group, Outgoing, Partition, Start

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.transport.port import Reader

TOPIC = catalogue().queries.name
EVERY = frozenset(Partition(TOPIC, number) for number in range(catalogue().queries.partitions))

needs_kafka = pytest.mark.skipif(missing() is not None, reason=f"no Apache Kafka: {missing()}")


def event(value: bytes) -> Outgoing:
    return Outgoing(Partition(TOPIC, 1), b"key", value)


async def read(reader: Reader, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(30):
        while len(values) < count:
            values += [record.value for record in await reader.poll(0.2)]
    return values


async def test_a_broker_that_is_down_at_start_is_waited_for_and_then_given_up() -> None:
    nobody = Connection.to("127.0.0.1:1")
    started = time.monotonic()
    with structlog.testing.capture_logs() as logs, pytest.raises(BrokerError) as caught:
        async with KafkaTransport(nobody, SystemClock(), give_up_after=1.0):
            pass
    assert 0.5 < time.monotonic() - started < 3
    assert "no broker at '127.0.0.1:1' after 1 s" in str(caught.value)
    assert "fi-stream broker" in str(caught.value)
    assert [log["event"] for log in logs] == ["broker.waiting"]


@pytest.mark.kafka
@needs_kafka
async def test_a_broker_that_restarts_loses_nothing_and_ends_nothing() -> None:
    with ApacheBroker() as broker:
        connection = Connection.of(
            {"bootstrap.servers": broker.bootstrap, "delivery.timeout.ms": 25_000}
        )
        short = Connection.of({"bootstrap.servers": broker.bootstrap, "delivery.timeout.ms": 1_000})
        await topics.apply(connection)
        async with (
            KafkaTransport(connection, SystemClock()) as transport,
            KafkaTransport(short, SystemClock()) as hasty,
            transport.reader(Assigned(EVERY, Start.END)) as by_hand,
            transport.reader(Group("group", (TOPIC,), Start.END)) as grouped,
        ):
            await by_hand.starts()
            await grouped.starts()
            await hasty.publish([event(b"before")])
            assert await read(by_hand, 1) == await read(grouped, 1) == [b"before"]
            await grouped.commit({Partition(TOPIC, 1): 1})

            with structlog.testing.capture_logs() as logs:
                await asyncio.to_thread(broker.stop)
                sending = asyncio.create_task(transport.publish([event(b"during")]))
                with pytest.raises(SendUnknown, match="Send the same bytes again"):
                    await hasty.publish([event(b"given up")])
                for _ in range(5):
                    assert await by_hand.poll(0.3) == []
                    assert await grouped.poll(0.3) == []
                assert not transport.reachable
                await asyncio.to_thread(broker.start)
                async with asyncio.timeout(20):
                    await sending
            assert "broker.gone" in {log["event"] for log in logs}

            # The send that was given up was never taken: it is unknown, and here did not arrive.
            assert await read(by_hand, 1) == [b"during"]
            assert await read(grouped, 1) == [b"during"]
            await hasty.publish([event(b"after")])
            assert await read(by_hand, 1) == await read(grouped, 1) == [b"after"]


@pytest.mark.kafka
@needs_kafka
async def test_closing_while_the_broker_is_away_takes_bounded_time() -> None:
    before, complaints = asyncio.all_tasks(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    with ApacheBroker() as broker:
        connection = Connection.to(broker.bootstrap)
        await topics.apply(connection)
        async with (
            KafkaTransport(connection, SystemClock()) as transport,
            transport.reader(Group("group", (TOPIC,), Start.END)) as reader,
        ):
            await reader.starts()
            await asyncio.to_thread(broker.stop)
            sending = asyncio.create_task(transport.publish([event(b"lost")]))
            assert await reader.poll(0.3) == []
            closing = time.monotonic()
        with pytest.raises(SendUnknown):
            await sending
    assert time.monotonic() - closing < 15
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.mark.kafka
@needs_kafka
def test_a_local_kafka_ends_with_a_command_that_is_killed_outright(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fi_stream.cli import main; main()", "broker", "--apache"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        port = int(re.fullmatch(r"bootstrap\.servers = 127\.0\.0\.1:(\d+)\n", first)[1])
        socket.create_connection(("127.0.0.1", port), 1).close()
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    while listens(port) or list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.kafka
@needs_kafka
def test_a_local_kafka_leaves_no_process_and_no_file_behind() -> None:
    with ApacheBroker() as broker:
        [node] = broker.nodes
        home, group = node.home, node.pid
        assert home is not None
        assert group is not None
        assert home.is_dir()
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert not home.exists()
