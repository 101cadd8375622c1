"""Noise and budgets in the running role."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from stage import noise, rows

from fi_stream import connect
from fi_stream.federation.changes import with_keys
from fi_stream.federation.files import federation_toml
from fi_stream.privacy.ledger import read
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
LABELS = {"form": "label", "rules": ("hard",)}


def ledger_of(stage: Stage, member: str) -> Path:
    return stage.directory / member / "budget.ledger"


def units(stage: Stage, member: str) -> int:
    """What alice used up at most, in billionths of epsilon."""
    return read(ledger_of(stage, member)).lines["alice"].reserved


def stored(stage: Stage, member: str) -> dict[str, bytes]:
    """Every file of a member's store: the ledger, and whatever SQLite keeps beside it."""
    ledger = ledger_of(stage, member)
    files = sorted(ledger.parent.glob(f"{ledger.name}*"))
    return {file.name: hashlib.sha256(file.read_bytes()).digest() for file in files}


async def test_a_result_declares_the_noise_and_what_it_adds_up_to_by_rows(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(2.0, 100.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = (await client.ask(rows(1))).guarantee
        second = (await client.ask(rows(3))).guarantee
    assert first.mechanism == "randomised_response"
    assert first.epsilon_query == pytest.approx(2.0)
    assert first.epsilon_total == pytest.approx(2.0)
    assert second.epsilon_query == pytest.approx(6.0)
    assert second.epsilon_total == pytest.approx(8.0)
    assert first.delta == 0
    assert "epsilon 6 for this query and 8 for all of this client's queries" in second.sentence
    assert "one participant's whole answer" in second.sentence


async def test_the_charge_is_on_disk_before_the_answer_is_out(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(2.0, 100.0), policy=LABELS)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        await client.ask(rows(1))
        assert units(stage, "p1") >= 2_000_000_000
        await running["p1"].kill()
    assert units(stage, "p1") >= 2_000_000_000


async def test_a_spent_budget_is_an_abstain_that_costs_nothing_and_outlives_a_restart(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(8.0, 24.0), policy=LABELS)
    async with connect(stage.file("alice")) as client, connect(stage.file("bob")) as other:
        async with stage.running(*EVERYONE):
            for _ in range(3):
                assert (await client.ask(rows(1))).outcome == "complete"
            used_up = {member: stored(stage, member) for member in EVERYONE[1:]}
            for _ in range(3):
                result = await client.ask(rows(1))
                assert result.outcome == "no_quorum"
                assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
                assert result.guarantee is None
            assert {member: stored(stage, member) for member in EVERYONE[1:]} == used_up
            assert (await other.ask(rows(1))).outcome == "complete"
        async with stage.running(*EVERYONE):
            result = await client.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_more_rows_than_the_rest_of_the_budget_pays_for_are_refused_and_fewer_are_not(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(8.0, 24.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(4))).outcome == "no_quorum"
        assert (await client.ask(rows(3))).outcome == "complete"


async def test_a_ledger_that_cannot_be_used_stops_the_answers_and_not_the_role(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(2.0, 1000.0), policy=LABELS)
    ledger = ledger_of(stage, "p2")
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        before = ledger.read_bytes()
        ledger.write_bytes(b"{")
        result = await client.ask(rows(1))
        assert result.outcome == "complete"
        assert result.missing == {"p2": "overloaded"}
        ledger.write_bytes(before)
        assert (await client.ask(rows(1))).missing == {}
        assert not running["p2"].task.done()
    [said] = stage.events("refused", reason="overloaded")
    assert "the privacy ledger" in said["detail"]


async def test_a_prediction_that_cannot_be_is_found_before_the_charge(
    build: Callable[..., Stage],
) -> None:
    bad = "if (x[:, 3] == 77).any(): return np.full((len(x), 3), np.nan)"
    stage = build(privacy=noise(2.0, 1000.0), policy=LABELS, models={"p1": bad})
    drawn = rows(1)
    drawn[:, 3] = 77
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(drawn)).missing == {"p1": "not_finite"}
        assert read(ledger_of(stage, "p1")).lines == {}
        assert units(stage, "p2") > 0


async def test_colluding_clients_stay_within_the_budget_of_all(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 24.0) + "\nbudget_all = 32", policy=LABELS)
    async with connect(stage.file("alice")) as alice, connect(stage.file("bob")) as bob:
        async with stage.running(*EVERYONE):
            for client in (alice, bob, alice, bob):
                assert (await client.ask(rows(1))).outcome == "complete"
            for client in (alice, bob):  # each has 8 left of its own
                result = await client.ask(rows(1))
                assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
        async with stage.running(*EVERYONE):
            result = await bob.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_another_model_does_not_renew_a_budget(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 8.0), policy=LABELS)
    async with connect(stage.file("alice")) as client:
        async with stage.running(*EVERYONE):
            first = await client.ask(rows(1))
            assert first.outcome == "complete"
        for member in EVERYONE[1:]:
            [model] = stage.file(member).parent.glob("model_*.py")
            renamed = model.with_stem(f"{model.stem}_better")
            renamed.write_text(model.read_text() + "# better\n")
            file = stage.file(member)
            file.write_text(file.read_text().replace(f"{model.stem}:", f"{renamed.stem}:"))
        async with stage.running(*EVERYONE):
            result = await client.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_other_keys_of_a_client_do_not_renew_its_budget(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 8.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(1))).outcome == "complete"
    new = Identity.generate("alice")
    shutil.rmtree(stage.file("alice").parent / "keys")
    new.save(stage.file("alice").parent / "keys")
    federation = with_keys(stage.federation, new.card(), revoked=True)
    (stage.directory / "federation.toml").write_text(federation_toml(federation))
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1))
        assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
