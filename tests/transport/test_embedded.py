from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fi_stream.clock import SystemClock
from fi_stream.errors import ConfigError
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import NOTICE, EmbeddedBroker
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Partition, Start
from fi_stream.transport.topics import verify

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

COMMAND = [sys.executable, "-c", "from fi_stream.cli import main; main()", "broker"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def count(bootstrap: str, topic: str) -> int:
    async with KafkaTransport(Connection.to(bootstrap), SystemClock(), 5) as transport:
        assert transport.embedded
        return await transport.partition_count(topic)


async def test_shared_topics_have_the_count_that_was_asked_for() -> None:
    with EmbeddedBroker(partitions=7) as broker:
        assert await count(broker.bootstrap, "fi.results") == 7
        assert await count(broker.bootstrap, "fi.keys") == 1


async def test_it_listens_on_the_port_that_was_asked_for_also_after_it_was_down() -> None:
    port = free_port()
    with EmbeddedBroker(port=port) as broker:
        assert broker.bootstrap == f"127.0.0.1:{port}"
        assert await count(broker.bootstrap, "fi.queries") == 4
        broker.go_down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)
        broker.come_up()
        assert await count(broker.bootstrap, "fi.queries") == 4


def test_a_port_that_is_taken_is_refused_and_nothing_is_left_open() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = len(list(Path("/dev/fd").iterdir()))
        with pytest.raises(ConfigError, match=r"port \d+ of 127\.0\.0\.1 cannot be used"):
            EmbeddedBroker(port=other.getsockname()[1])
        assert len(list(Path("/dev/fd").iterdir())) == before


def test_stopping_twice_is_stopping_once() -> None:
    broker = EmbeddedBroker()
    broker.stop()
    broker.stop()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_its_address_first_and_what_it_is_for_and_stops_in_good_order(
    sign: signal.Signals,
) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"bootstrap.servers = 127.0.0.1:{port}\n"
        socket.create_connection(("127.0.0.1", port), 1).close()
        process.send_signal(sign)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert NOTICE in errors
    assert "Traceback" not in errors


async def test_a_transport_waits_for_a_broker_that_goes_away_as_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EmbeddedBroker() as broker:
        connect = KafkaTransport._connect

        async def then_away(transport: KafkaTransport) -> AIOKafkaProducer:
            producer = await connect(transport)
            broker.go_down()
            asyncio.get_running_loop().call_later(1.0, broker.come_up)
            return producer

        monkeypatch.setattr(KafkaTransport, "_connect", then_away)
        async with KafkaTransport(Connection.to(broker.bootstrap), SystemClock(), 20) as transport:
            assert transport.embedded


async def test_the_check_of_topics_waits_for_a_broker_that_went_away_after_it_was_found() -> None:
    with EmbeddedBroker() as broker:
        async with KafkaTransport(Connection.to(broker.bootstrap), SystemClock(), 20) as transport:
            broker.go_down()
            asyncio.get_running_loop().call_later(1.0, broker.come_up)
            await verify(transport, catalogue().topics)


async def test_a_reader_waits_for_a_broker_that_went_away_since_its_topics_were_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    what = Assigned(frozenset({Partition("fi.keys", 0)}), Start.BEGINNING)
    with EmbeddedBroker() as broker:
        async with KafkaTransport(Connection.to(broker.bootstrap), SystemClock(), 20) as transport:
            count = await transport.partition_count("fi.keys")

            async def seen_before(_topic: str) -> int:
                return count

            monkeypatch.setattr(transport, "partition_count", seen_before)
            broker.go_down()
            asyncio.get_running_loop().call_later(1.0, broker.come_up)
            async with transport.reader(what) as reader:
                assert await reader.starts() == {Partition("fi.keys", 0): 0}


async def test_a_reader_waits_for_a_broker_that_went_away_after_it_was_found() -> None:
    what = Assigned(frozenset({Partition("fi.keys", 0)}), Start.BEGINNING)
    with EmbeddedBroker() as broker:
        async with KafkaTransport(Connection.to(broker.bootstrap), SystemClock(), 20) as transport:
            broker.go_down()
            asyncio.get_running_loop().call_later(1.0, broker.come_up)
            async with transport.reader(what) as reader:
                assert await reader.starts() == {Partition("fi.keys", 0): 0}
