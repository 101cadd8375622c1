"""A mechanism of a participant's own in the running role, in `check` and in an audit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import own_noise
import pytest
from stage import names_of, rows

from fi_stream import connect
from fi_stream.cli.findings import check_file
from fi_stream.errors import ConfigError
from fi_stream.federation.files import load_member
from fi_stream.privacy.ledger import read
from fi_stream.roles.audit import audit
from fi_stream.roles.metrics import Board
from fi_stream.roles.noise import noise_drawn_ahead
from fi_stream.roles.participant import run_participant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
POLICY = {"form": "probabilities", "rules": ("soft", "hard"), "protections": ("trusted", "blind")}


def mine(name: str, epsilon: float = 2.0, budget: float = 1000.0) -> str:
    return (
        f'mechanism = "noise_for_roles:{name}"\nepsilon = {epsilon}\nbudget = {budget}\n'
        'ledger = "budget.ledger"'
    )


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "noise_for_roles.py").write_text(own_noise.source())
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("protection", ["trusted", "blind"])
async def test_it_answers_is_charged_and_is_named_in_the_guarantee(
    build: Callable[..., Stage], protection: str
) -> None:
    # Sure rows at epsilon 32: a wrong label is one in far more than millions.
    stage = build(privacy=mine("laplace", 32.0, 224.0), policy=POLICY)
    drawn = 9 * np.eye(3, 4, dtype=np.float32)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn, deadline=5.0, protection=protection)
        again = await client.ask(drawn, deadline=5.0, protection=protection, rule="hard")
        late = await client.ask(rows(2), deadline=5.0, protection=protection)
    assert (result.outcome, result.labels) == ("complete", names_of(drawn))
    assert again.outcome == "complete"
    said = result.guarantee
    assert (said.mechanism, said.delta) == ("my_laplace", 0.0)
    assert (said.epsilon_query, said.epsilon_total) == (pytest.approx(96), pytest.approx(96))
    assert again.guarantee.epsilon_total == pytest.approx(192)
    assert "by my_laplace" in said.sentence
    assert late.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
    ledger = read(stage.file("p1").with_name("budget.ledger"))
    assert ledger.lines["alice"].answered == pytest.approx(192e9)


async def test_what_is_no_answer_is_charged_and_an_abstain_and_its_operator_sees_why(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=mine("later"), policy=POLICY)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        for count in (7, 9):
            result = await client.ask(rows(count), deadline=5.0)
            assert result.missing == dict.fromkeys(EVERYONE[1:], "model_failed")
        assert (await client.ask(rows(8), deadline=5.0)).outcome == "complete"
        assert (await running["p1"].stop())["model_failed"] == 2
    assert read(stage.file("p1").with_name("budget.ledger")).lines["alice"].answered >= 48e9
    whys = {event["detail"] for event in stage.events("refused", reason="model_failed")}
    assert any("RuntimeError: seven" in why for why in whys)


@pytest.mark.parametrize(
    ("name", "said"),
    [("twice", "two calls have the same noise"), ("gone", "has no function 'gone'")],
)
async def test_the_role_does_not_start_with_one_that_cannot_be_used(
    build: Callable[..., Stage], name: str, said: str
) -> None:
    stage = build(privacy=mine(name), policy=POLICY)
    with pytest.raises(ConfigError, match=said):
        await run_participant(stage.file("p1"), asyncio.Event())


@pytest.mark.parametrize(
    ("change", "policy", "said"),
    [
        (("", ""), {}, ""),
        (("noise_for_roles", "not_installed.noise"), {}, "there is no module not_installed.noise"),
        (("", ""), {"rules": ("soft", "entropy")}, "rule 'entropy' cannot read"),
        (("epsilon = 2.0\n", ""), {}, "privacy.epsilon: is missing"),
        ((":laplace", ":"), {}, 'privacy.mechanism: write "module:callable"'),
    ],
)
def test_check_says_whether_it_is_there_and_goes_with_the_policy(
    build: Callable[..., Stage], change: tuple[str, str], policy: dict[str, Any], said: str
) -> None:
    stage = build(privacy=mine("laplace").replace(*change), policy={**POLICY, **policy})
    mistakes = " ".join(str(mistake) for mistake in check_file(stage.file("p1")).mistakes)
    assert said in mistakes
    assert bool(said) == bool(mistakes)


async def test_an_audit_plays_with_it_as_with_any(build: Callable[..., Stage]) -> None:
    file = build(privacy=mine("laplace", budget=2.0), policy=POLICY).file("p1")
    for _ in range(2):  # see test_privacy_audit: a threshold may be badly chosen
        audited = await audit(file, 12_000)
        if audited.verdict.epsilon > 0.2:
            break
    assert audited.mechanism == "noise_for_roles:laplace"
    assert audited.verdict.claim.epsilon == pytest.approx(2.0)
    assert 0.2 < audited.verdict.epsilon <= audited.verdict.claim.epsilon


def test_no_process_draws_noise_ahead_for_one_that_draws_its_own(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=mine("laplace"), policy=POLICY)
    with noise_drawn_ahead(load_member(stage.file("p1")), Board({})) as source:
        assert source is None
