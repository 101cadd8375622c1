"""Keys that come late, or never, or before their reader."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import pytest
from members import with_header
from rosters import asked_all_along
from stage import EVERY_PROTECTION, names_of, rows

from fi_stream import connect
from fi_stream.events.grant import decode_grant
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Outcome, ResultPayload, frame
from fi_stream.events.refusals import Refusal
from fi_stream.federation.roster import Role
from fi_stream.roles import keys
from fi_stream.roles.own_epochs import Need
from fi_stream.sealing import epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

    from fi_stream.transport.port import Record

EVERYONE = ("agg", "p1", "p2", "p3")


async def test_a_query_waits_for_its_grant_and_is_answered_then(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("alice", Role.CLIENT, announce=False) as wire,
        wire.results() as results,
    ):
        _, event = wire.query(rows(1)[0])
        assert await wire.seat.publish([event])
        assert await results.gather(0.3) == []
        await wire.keys.announce()
        _, payload = await results.next(within=1.0)
        assert payload.outcome == "complete"
        assert await running["p1"].stop() == {}


async def test_a_query_whose_grant_never_comes_is_let_go_at_its_deadline(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("alice", Role.CLIENT, announce=False) as wire,
        wire.results() as results,
    ):
        for _ in range(3):
            _, event = wire.query(rows(1)[0], deadline=wire.seat.clock.now() + 200)
            assert await wire.seat.publish([event])
        assert await results.gather(0.5) == []
        for member in EVERYONE:
            assert await running[member].stop() == {"unknown_epoch": 3}


async def test_a_flood_under_epochs_that_nobody_granted_holds_up_neither_sender_nor_others(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("bob", Role.CLIENT, announce=False) as bob,
        bob.results() as results,
        connect(stage.file("alice")) as alice,
    ):
        _, event = bob.query(drawn[0], deadline=bob.seat.clock.now() + 29_000)
        assert await bob.seat.publish([event])
        _, model = bob.query(drawn[0])
        for _ in range(600):
            flood = with_header(model.value, {"sender": "alice", "epoch": secrets.token_bytes(16)})
            await bob.put("fi.queries", model.target.number, flood)
        result = await alice.ask(drawn, deadline=10.0)
        assert result.outcome == "complete"
        await bob.keys.announce()
        _, payload = await results.next()
        assert payload.outcome == "complete"
        assert (await running["p1"].stop())["unknown_epoch"] >= 600 - 256


async def test_a_participant_that_starts_later_can_read_who_was_there_before(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with connect(stage.file("alice")) as client, stage.running(*EVERYONE):
        result = await client.ask(drawn)
    assert result.outcome == "complete"


async def test_two_processes_of_one_client_get_each_its_own_results(
    build: Callable[..., Stage],
) -> None:
    stage, one, two = build(), rows(20, 1), rows(20, 2)
    async with (
        stage.running(*EVERYONE),
        connect(stage.file("alice")) as first,
        connect(stage.file("alice")) as second,
    ):
        posted = [
            client.post(row, deadline=10.0)
            for pair in zip(one, two, strict=True)
            for client, row in zip((first, second), pair, strict=True)
        ]
        labels = [result.labels[0] for result in await asyncio.gather(*posted)]
    assert labels[::2] == names_of(one)
    assert labels[1::2] == names_of(two)


async def test_a_result_that_comes_before_its_grant_is_read_as_soon_as_that_comes(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with (
        stage.wire("agg", Role.AGGREGATOR, announce=False) as wire,
        connect(stage.file("alice")) as client,
    ):
        asked = client.post(rows(1), deadline=10.0)
        [waiting] = client._open.values()
        reply = Reply(client="alice", digest=waiting.digest, kind="result")
        payload = frame(ResultPayload(outcome=Outcome.NO_QUORUM))
        sealed = wire.keys.own.find(Need(1, "trusted", "alice")).seal(waiting.ask, reply, payload)
        await wire.put("fi.results", waiting.ask.partition, sealed.value, waiting.ask.query)
        await asyncio.sleep(0.3)
        assert not asked.done()
        begun = time.monotonic()
        await wire.keys.announce()
        assert (await asked).outcome == "no_quorum"
        assert time.monotonic() - begun < 0.4


@pytest.mark.parametrize("protection", EVERY_PROTECTION["protections"])
async def test_keys_are_renewed_while_queries_are_asked_and_none_is_lost(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, protection: str
) -> None:
    monkeypatch.setattr(keys, "ANNOUNCE_EVERY", 0.1)
    monkeypatch.setattr(keys, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(epochs, "MOST_MESSAGES", 5)
    stage = build(policy=EVERY_PROTECTION)
    asking = asked_all_along(stage, protection=protection)
    async with stage.running(*EVERYONE), asking as results:
        await asyncio.sleep(2)
    assert len(results) > 20
    assert {result.outcome for result in results} == {"complete"}
    async with stage.wire("alice", Role.CLIENT) as wire:
        granted = {epoch_of(record) for record in await wire.kept("fi.keys")}
    assert len([purpose for _, purpose in granted if purpose == "query"]) > 2


async def test_an_aggregator_that_starts_late_opens_what_was_sealed_under_older_keys(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ANNOUNCE_EVERY", 0.1)
    monkeypatch.setattr(keys, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(epochs, "MOST_MESSAGES", 1)
    stage = build()
    async with stage.running("p1", "p2", "p3"), connect(stage.file("alice")) as client:
        waiting = []
        for row in rows(4):
            waiting.append(client.post(row, deadline=12.0))
            await asyncio.sleep(0.5)
        async with stage.running("agg"):
            results = await asyncio.gather(*waiting)
    assert {result.outcome for result in results} == {"complete"}


def epoch_of(record: Record) -> tuple[bytes, str]:
    decoded = decode_grant(record.value)
    assert not isinstance(decoded, Refusal)
    return decoded[1].epoch.epoch, decoded[1].epoch.purpose
