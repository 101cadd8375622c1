"""A broker that is down at start, or goes away and comes back."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from pages import becomes, port_of, with_port
from stage import nothing_is_answered_twice, rows

from fi_stream import BrokerError, connect
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
AWAY = [float(seconds) for seconds in os.environ.get("FI_BROKER_AWAY", "0").split(",")]
"""For how many seconds, besides its start, the broker is away."""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


async def test_a_broker_that_stays_down_is_waited_for_said_and_given_up(
    tmp_path: Path, logs: list[MutableMapping[str, Any]], port: int
) -> None:
    stage = staging.build(tmp_path / "federation", f"127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(BrokerError, match=r"no broker at .* after 1 s.*fi-stream broker"):
        await run_aggregator(stage.file("agg"), asyncio.Event(), give_up_after=1.0)
    with pytest.raises(BrokerError, match="no broker at"):
        async with connect(stage.file("alice"), give_up_after=0.3):
            pass
    assert time.monotonic() - begun < 4.0
    [waiting, *_] = [one for one in logs if one["event"] == "broker.waiting"]
    assert waiting["give_up_after"] == 1.0


async def test_roles_that_were_started_before_their_broker_work_once_it_is_there(
    tmp_path: Path, logs: list[MutableMapping[str, Any]], port: int
) -> None:
    stage = staging.build(tmp_path / "federation", f"127.0.0.1:{port}")
    stage.logs = logs

    async def later() -> EmbeddedBroker:
        await asyncio.sleep(0.5)
        return EmbeddedBroker(port=port)

    starting = asyncio.create_task(later())
    try:
        async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
            assert (await client.ask(rows(1), deadline=10.0)).outcome == "complete"
    finally:
        (await starting).stop()


async def test_a_broker_that_was_away_is_found_again_without_a_restart(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build()
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(1), deadline=10.0)).outcome == "complete"
        broker.go_down()
        during = await asyncio.gather(*(client.post(row, deadline=0.2) for row in rows(3)))
        assert [result.outcome for result in during] == [None] * 3
        await asyncio.sleep(1.0)
        broker.come_up()
        assert (await _recovered(client)).outcome == "complete"
        assert (await client.ask(rows(1), deadline=10.0)).outcome == "complete"


async def test_who_leaves_while_the_broker_is_away_hears_nothing_of_what_it_gave_up(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage, complaints = build(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with connect(stage.file("alice")) as client:
        assert (await client.post(rows(1), deadline=0.1)).outcome is None
        broker.go_down()
        posted = [client.post(rows(1), deadline=20.0) for _ in range(5)]
        await asyncio.sleep(0.5)
    assert [one.result().outcome for one in posted] == [None] * 5
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize("away", AWAY)
async def test_apache_kafka_that_was_restarted_is_found_again_without_a_restart_of_ours(
    tmp_path: Path, logs: list[MutableMapping[str, Any]], away: float
) -> None:
    if (absent := missing()) is not None:
        pytest.skip(f"no Apache Kafka: {absent}")
    with ApacheBroker() as broker:
        await apply(Connection.to(broker.bootstrap))
        stage = staging.build(tmp_path / "federation", broker.bootstrap)
        stage.logs = logs
        with_port(stage, "agg")
        async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
            assert (await client.ask(rows(1), deadline=10.0)).outcome == "complete"
            await asyncio.to_thread(broker.kill)
            during = [client.post(row, deadline=2.0) for row in rows(3)]
            why = (await becomes(port_of(stage, "agg"), 503))["why"]
            assert any(one.startswith("broker unreachable for ") for one in why), why
            await asyncio.sleep(away)
            await asyncio.to_thread(broker.start)
            assert (await _recovered(client)).outcome == "complete"
            assert (await becomes(port_of(stage, "agg"), 200, within=30.0))["why"] == []
            results = [one async for one in client.stream(rows(20), deadline=10.0)]
            assert {result.outcome for result in results} == {"complete"}
            assert {(await one).outcome for one in during} <= {None, "complete"}
            [gone, *_], [back, *_] = stage.events("broker.gone"), stage.events("broker.back")
            assert gone["bootstrap"] == broker.bootstrap
            assert back["seconds"] >= away
            await nothing_is_answered_twice(stage)


async def _recovered(client: Any) -> Any:
    """The first result after the broker came back; it may take a few seconds."""
    async with asyncio.timeout(40):
        while True:
            result = await client.post(rows(1), deadline=2.0)
            if result.outcome == "complete":
                return result
