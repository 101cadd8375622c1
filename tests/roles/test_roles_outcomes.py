"""Each outcome, for its reason and in its time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from stage import ODD, RAISES, names_of, odd, rows

from fi_stream import connect
from fi_stream.events.refusals import Reason
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
EARLY = {"hop_ms": 500}
"""Closes a query so long before its deadline that a busy machine brings the result in time."""

ABSTAINS = {
    RAISES: "model_failed",
    ODD + "return np.ones((len(x) + 1, 3)) / 3": "wrong_shape",
    ODD + "return np.ones((len(x), 2)) / 2": "wrong_shape",
    ODD + "return np.full((len(x), 3), np.nan)": "not_finite",
    ODD + "return np.full((len(x), 3), 0.4)": "not_a_prediction",
}


async def test_a_silent_participant_makes_it_partial_at_the_deadline_not_later(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(limits=EARLY), rows(1)
    async with stage.running("agg", "p1", "p3"), connect(stage.file("alice")) as client:
        await client.ask(drawn, deadline=1.5)
        begun = time.monotonic()
        result = await client.ask(drawn, deadline=1.5)
        took = time.monotonic() - begun
    assert result.outcome == "partial"
    assert result.labels == names_of(drawn)
    assert result.missing == {"p2": "silent"}
    assert [one.member for one in result.contributors] == ["p1", "p3"]
    assert 0.8 < took <= 1.6


@pytest.mark.parametrize("step", [3_600, -3_600])
async def test_every_wall_clock_stepping_by_an_hour_moves_no_deadline(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Also where the broker takes its times from those who send, as the embedded one does."""
    shift = 0
    stepping = SimpleNamespace(
        time_ns=lambda: time.time_ns() + shift * 10**9, monotonic=time.monotonic
    )
    monkeypatch.setattr("fi_stream.clock.time", stepping)
    stage, drawn = build(limits=EARLY), rows(1)
    async with stage.running("agg", "p1", "p3") as running, connect(stage.file("alice")) as client:
        await client.ask(drawn, deadline=1.5)
        begun = time.monotonic()
        asked = asyncio.create_task(client.ask(drawn, deadline=1.5))
        await asyncio.sleep(0.01)
        shift = step
        result = await asked
        assert 0.8 < time.monotonic() - begun <= 1.6
        assert result.outcome == "partial"
        assert (await client.ask(drawn, deadline=1.5)).outcome == "partial"
        assert not await running["agg"].stop()


async def test_a_slow_participant_delays_nobody_past_the_deadline(
    build: Callable[..., Stage],
) -> None:
    stage = build(models={"p2": ODD + "time.sleep(3)"}, limits=EARLY)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        begun = time.monotonic()
        result = await client.ask(odd(1), deadline=1.5)
        assert time.monotonic() - begun <= 2.0
        assert result.outcome == "partial"
        assert result.missing == {"p2": "silent"}


@pytest.mark.parametrize(("body", "reason"), ABSTAINS.items())
async def test_an_answer_that_cannot_be_is_an_abstain_with_its_reason(
    build: Callable[..., Stage], body: str, reason: str
) -> None:
    stage, drawn = build(models={"p2": body}), odd(2)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(drawn)
        assert result.outcome == "complete"
        assert result.labels == names_of(drawn)
        assert result.missing == {"p2": reason}
        again = await client.ask(drawn)
        assert again.outcome == "complete"
        assert await running["p2"].stop() == {reason: 2}


async def test_too_few_answers_are_no_quorum_and_say_who_was_missing(
    build: Callable[..., Stage],
) -> None:
    stage = build(models={"p1": RAISES, "p2": RAISES})
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(odd(1), deadline=5.0)
        assert result.latency_ms < 3000  # all have said that they have nothing to say
    assert result.outcome == "no_quorum"
    assert result.labels is None
    assert result.contributors == ()
    assert result.missing == {"p1": "model_failed", "p2": "model_failed"}


async def test_nobody_there_is_no_quorum_by_the_deadline(build: Callable[..., Stage]) -> None:
    stage = build(limits=EARLY)
    async with stage.running("agg"), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1), deadline=1.5)
    assert result.outcome == "no_quorum"
    assert result.missing == dict.fromkeys(("p1", "p2", "p3"), "silent")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": "loudest"}, "rule_not_allowed"),
        ({"protection": "mpc"}, "protection_not_allowed"),
        ({"protection": "blind"}, "protection_not_allowed"),
        ({"protection": "secagg"}, "protection_not_allowed"),
        ({"rows": 2000}, "too_large"),
        ({"deadline": 2**62}, "deadline_too_far"),
    ],
)
async def test_a_client_that_skips_its_own_checks_is_rejected_at_once(
    build: Callable[..., Stage], changes: Mapping[str, object], reason: str
) -> None:
    stage = build()
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        ask, event = wire.query(rows(1)[0], **changes)
        assert await wire.seat.publish([event])
        result, payload = await results.next(within=1.5)
        assert result.header.ask == ask
        assert payload.outcome == "rejected"
        assert Reason.from_code(payload.reason) == reason
        assert (await running["agg"].stop())[reason] == 1
        assert (await running["p1"].stop())[reason] == 1
        assert await results.gather(0.1) == []


async def test_a_query_past_its_deadline_costs_nothing_and_has_no_result(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        now = wire.seat.clock.now()
        _, event = wire.query(rows(1)[0], created=now - 1000, deadline=now - 10)
        assert await wire.seat.publish([event])
        assert await results.gather(0.3) == []
        for member in EVERYONE:
            assert (await running[member].stop()) == {"late": 1}
        assert stage.events("stopped", member="p1")[0]["answers"] == 0


async def test_rows_that_are_not_as_many_as_the_header_says_are_answered_by_nobody(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with (
        stage.running(*EVERYONE),
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        _, event = wire.query(rows(1)[0], rows=3)
        assert await wire.seat.publish([event])
        _, payload = await results.next()
        assert payload.outcome == "no_quorum"
        assert {Reason.from_code(one.reason) for one in payload.missing} == {"wrong_shape"}


async def test_queries_of_many_clients_and_sizes_at_once_each_get_their_own_rows(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    asked = [rows(1 + number % 4, seed=number) for number in range(60)]
    async with (
        stage.running(*EVERYONE),
        connect(stage.file("alice")) as alice,
        connect(stage.file("bob")) as bob,
    ):
        posted = [
            (alice, bob)[number % 2].post(drawn, deadline=10.0)
            for number, drawn in enumerate(asked)
        ]
        results = await asyncio.gather(*posted)
    assert [result.labels for result in results] == [names_of(drawn) for drawn in asked]
