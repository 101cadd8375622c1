"""A role's one port, while the role starts, works, loses its broker, and ends."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from pages import becomes, get, port_of, with_port
from prometheus_client.parser import text_string_to_metric_families
from stage import RAISES, odd, rows, until
from test_dead_letters import FORBIDDEN, NO_ERROR, break_topic

from fi_stream import connect
from fi_stream.errors import BrokerError, ConfigError
from fi_stream.federation.roster import Role
from fi_stream.roles.participant import run_participant
from fi_stream.transport import topics
from fi_stream.transport.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from stage import Stage

    from fi_stream.transport.embedded import EmbeddedBroker


async def numbers(port: int) -> dict[str, float]:
    _, page = await get(port, "/metrics")
    return {
        sample.name.removeprefix("fi_stream_") + "".join(f"/{v}" for v in sample.labels.values()): (
            sample.value
        )
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def shows(port: int, name: str, number: float) -> dict[str, float]:
    """All numbers, as soon as this one is so."""
    ends = time.monotonic() + 60
    while (shown := await numbers(port))[name] != number:
        assert time.monotonic() < ends, shown[name]
        await asyncio.sleep(0.1)
    return shown


async def test_a_participant_shows_what_it_did(build: Callable[..., Stage]) -> None:
    stage = build(participants=2, models={"p1": RAISES})
    with_port(stage, "p1")
    async with stage.running("agg", "p1", "p2"), connect(stage.file("alice")) as client:
        port = port_of(stage, "p1")
        status, told = await get(port, "/readyz")
        assert (status, json.loads(told)) == (
            200,
            {"ready": True, "role": "participant", "member": "p1", "why": [], "degraded": []},
        )
        await client.ask(rows(1), deadline=5.0)
        assert (await client.post(odd(1), deadline=5.0)).outcome == "no_quorum"
        shown = await numbers(port)
    assert shown["responses_total/answer"] == 1
    assert shown["responses_total/abstain"] == shown["refusals_total/model_failed"] == 1
    assert shown["queries_total"] == shown["answer_seconds_count"] == 2
    assert 0 < shown["answer_seconds_sum"] < 10
    assert shown["lag_records/fi.queries"] == 0
    assert shown["partitions"] == 4
    assert shown["ready"] == shown["broker_reachable"] == 1
    assert 0 <= shown["key_age_seconds"] < 30
    assert shown["last_poll_seconds"] < 1
    assert shown["process_resident_memory_bytes"] > 1e6
    with pytest.raises(urllib.error.URLError):
        await get(port, "/livez")


async def test_an_aggregator_shows_what_it_decided(build: Callable[..., Stage]) -> None:
    stage = build(participants=2)
    with_port(stage, "agg")
    async with stage.running("agg", "p1", "p2"), connect(stage.file("alice")) as client:
        port = port_of(stage, "agg")
        assert (await becomes(port, 200))["role"] == "aggregator"
        result = await client.ask(rows(1), deadline=5.0)
        shown = await numbers(port)
    assert shown[f"outcomes_total/{result.outcome}"] == 1
    assert shown["settle_seconds_count"] == 1
    assert shown["open_queries"] == shown["orphans"] == 0
    assert shown["lag_records/fi.queries"] == 0
    assert shown["partitions"] == 4


async def test_a_client_shows_what_it_asked_and_what_came_of_it(
    build: Callable[..., Stage],
) -> None:
    stage = build(participants=1, policy={"quorum": 1})
    with_port(stage, "alice")
    async with stage.running("agg", "p1") as running, connect(stage.file("alice")) as client:
        port = port_of(stage, "alice")
        assert (await becomes(port, 200))["role"] == "client"
        await client.ask(rows(1), deadline=5.0)
        await running["agg"].stop()
        assert (await client.post(rows(1), deadline=0.3)).outcome is None
        waiting = client.post(rows(1), deadline=5.0)
        shown = await numbers(port)
        waiting.cancel()
    assert shown["queries_total"] == 3
    assert shown["outcomes_total/complete"] == shown["result_seconds_count"] == 1
    assert shown["unanswered_total"] == shown["open_queries"] == 1
    assert shown["partitions"] == shown["ready"] == 1
    assert shown["last_poll_seconds"] < 2
    assert "dead_letters_total/written" not in shown


async def test_what_became_of_refused_records_is_shown(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build(participants=1, policy={"quorum": 1})
    with_port(stage, "p1")
    async with stage.running("p1"), stage.wire("bob", Role.CLIENT) as wire:
        port = port_of(stage, "p1")
        break_topic(broker, FORBIDDEN)
        await wire.put("fi.queries", 0, b"bad")
        await shows(port, "dead_letters_total/failed", 1)
        break_topic(broker, NO_ERROR)
        await wire.put("fi.queries", 0, b"worse")
        shown = await shows(port, "dead_letters_total/written", 1)
    assert shown["dead_letters_total/failed"] == 1
    assert shown["dead_letters_total/overflowed"] == 0


async def test_a_role_without_its_broker_is_alive_and_not_ready(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build(participants=1, policy={"quorum": 1})
    with_port(stage, "p1")
    async with stage.running("p1"):
        port = port_of(stage, "p1")
        broker.go_down()
        try:
            why = (await becomes(port, 503))["why"]
            assert any(one.startswith("broker unreachable for ") for one in why), why
            assert (await get(port, "/livez"))[0] == 200
            shown = await numbers(port)
            assert shown["ready"] == shown["broker_reachable"] == 0
            assert "lag_records/fi.queries" not in shown
        finally:
            broker.come_up()
        assert (await becomes(port, 200))["why"] == []


@pytest.mark.kafka
@pytest.mark.parametrize("wrong", [("p1", 1), ("agg", -1), ("alice", 1)])
async def test_a_clock_that_is_an_hour_wrong_is_told_in_the_log_in_readiness_and_as_a_number(
    apache_broker: str,
    tmp_path: Path,
    logs: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[str, int],
) -> None:
    member, hours = wrong
    await topics.apply(Connection.to(apache_broker))
    stage = staging.build(tmp_path / "federation", apache_broker)
    stage.logs = logs
    with_port(stage, member)
    shifted = SimpleNamespace(
        time_ns=lambda: time.time_ns() + hours * 3_600 * 10**9, monotonic=time.monotonic
    )
    monkeypatch.setattr("fi_stream.clock.time", shifted)
    async with connect(stage.file(member)) if member == "alice" else stage.running(member):
        port = port_of(stage, member)
        why = (await becomes(port, 503))["why"]
        shown = await numbers(port)
    [said] = [one for one in why if "clock" in one]
    assert re.fullmatch(r"this machine's clock is 3\d{6} ms off the broker's, 2000 are .*", said)
    told = [one for one in stage.logs if one["event"] == "clock.wrong"]
    assert told[0]["log_level"] == "error"
    assert abs(told[0]["milliseconds"] + hours * 3_600_000) < 60_000
    assert abs(shown["clock_skew_seconds"] + hours * 3_600) < 60
    assert shown["ready"] == 0


async def test_the_port_is_there_before_the_broker_is(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    stage = staging.build(tmp_path / "federation", "127.0.0.1:9")
    stage.logs = logs
    with_port(stage, "p1")
    running = asyncio.create_task(run_participant(stage.file("p1"), asyncio.Event(), 2.0))
    await until(lambda: stage.events("health.listening"))
    port = port_of(stage, "p1")
    status, told = await get(port, "/readyz")
    assert (status, json.loads(told)["why"]) == (503, ["waiting for the broker"])
    assert (await get(port, "/livez"))[0] == (await get(port, "/metrics"))[0] == 200
    with pytest.raises(BrokerError):
        await running


async def test_a_role_whose_port_is_taken_says_so_and_does_not_start(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    stage = staging.build(tmp_path / "federation", "127.0.0.1:9")
    stage.logs = logs
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        with_port(stage, "p1", taken.sockets[0].getsockname()[1])
        with pytest.raises(ConfigError, match=r"\[health\]: nothing can listen on 127.0.0.1"):
            await run_participant(stage.file("p1"), asyncio.Event())


async def test_without_a_port_nothing_listens(build: Callable[..., Stage]) -> None:
    stage = build(participants=1, policy={"quorum": 1})
    async with stage.running("p1"):
        assert stage.events("health.listening") == []
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "health.look"]
