"""The audit of a participant that runs: it stays below a true claim, and refutes a false one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from faulty import Halved, Reused, RoundedAfter

from fi_stream.errors import ConfigError
from fi_stream.federation.policy import NoisyMaxPolicy, SecaggPolicy
from fi_stream.roles import accounts, central
from fi_stream.roles.audit import audit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LABEL = 'mechanism = "randomised_response"\nepsilon = 2.0\n'
SCORES = 'mechanism = "gaussian"\nepsilon = 2.0\ndelta = 1e-6\n'
WEIGHTS = f"{LABEL}weight_levels = 4\n"
VOTES = LABEL.replace("randomised_response", "noisy_max")
POLICIES = {
    WEIGHTS: {"form": "label", "rules": ("soft",)},
    VOTES: {"form": "label", "rules": ("hard",)},
    LABEL: {"form": "label", "rules": ("hard",)},
    SCORES: {"form": "probabilities", "rules": ("soft",)},
}
ANSWERS = 12_000


def member(directory: Path, privacy: str) -> Path:
    """A participant's file; nothing of what it names is used but `[privacy]`."""
    text = privacy + 'budget = 2.0\nledger = "budget.ledger"'
    policy = POLICIES[privacy]
    return staging.build(directory, "127.0.0.1:1", privacy=text, policy=policy).file("p1")


@pytest.mark.parametrize("privacy", [LABEL, WEIGHTS, VOTES, SCORES])
async def test_what_a_participant_that_runs_gives_away_is_less_than_it_claims(
    tmp_path: Path, privacy: str
) -> None:
    file = member(tmp_path / "f", privacy)
    before = sorted(file.parent.rglob("*"))
    told: list[tuple[int, int]] = []
    audited = await audit(file, ANSWERS, lambda *progress: told.append(progress))
    if not 0.2 < audited.verdict.epsilon <= 2.0:
        audited = await audit(file, ANSWERS)  # see test_privacy_audit: it may be by chance, once
    verdict = audited.verdict
    assert verdict.holds
    assert 0.2 < verdict.epsilon <= verdict.claim.epsilon == 2.0
    assert (audited.member, verdict.answers, told[-1]) == ("p1", ANSWERS, (ANSWERS, ANSWERS))
    assert sorted(file.parent.rglob("*")) == before  # no ledger was made, no budget spent


@pytest.mark.parametrize(
    ("privacy", "fault", "found"),
    [
        (LABEL, Halved, "the label"),
        (LABEL, Reused, "rows apart"),
        (SCORES, Halved, "the score"),
        (SCORES, RoundedAfter, "the last digits"),
        (SCORES, Reused, "rows apart"),
    ],
)
async def test_a_planted_fault_of_a_participant_that_runs_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    privacy: str,
    fault: Callable[[Any], Any],
    found: str,
) -> None:
    build = accounts.build
    monkeypatch.setattr(accounts, "build", lambda *given: fault(build(*given)))
    verdict = (await audit(member(tmp_path / "f", privacy), ANSWERS)).verdict
    if verdict.holds:  # see test_privacy_audit: it may be by chance, once
        verdict = (await audit(member(tmp_path / "again", privacy), ANSWERS)).verdict
    assert not verdict.holds
    assert found in verdict.tried.looks_at


async def test_where_nothing_is_promised_there_is_nothing_to_audit(tmp_path: Path) -> None:
    stage = staging.build(tmp_path / "f", "127.0.0.1:1")
    with pytest.raises(ConfigError, match="nothing to audit"):
        await audit(stage.file("p1"))


async def test_under_secagg_alone_there_is_no_answer_to_audit(tmp_path: Path) -> None:
    policy = {
        "protections": ("secagg",),
        "rules": ("soft",),
        "secagg": SecaggPolicy(k_min=3, epsilon=2.0, delta=1e-6),
    }
    privacy = SCORES + 'budget = 2.0\nledger = "budget.ledger"'
    stage = staging.build(tmp_path / "f", "127.0.0.1:1", privacy=privacy, policy=policy)
    with pytest.raises(ConfigError, match="no answer to audit"):
        await audit(stage.file("p1"))


def aggregator(directory: Path) -> Path:
    """The file of one that adds the noise."""
    adds = 'mechanism = "noisy_max"\nepsilon = 2.0\nbudget = 2.0\nledger = "budget.ledger"'
    policy = {
        "form": "label",
        "rules": ("hard",),
        "early_exit": False,
        "noisy_max": NoisyMaxPolicy(epsilon=2.0),
    }
    return staging.build(directory, "127.0.0.1:1", central=adds, policy=policy).file("agg")


async def test_what_an_aggregator_gives_its_clients_is_less_than_it_claims(tmp_path: Path) -> None:
    audited = await audit(aggregator(tmp_path / "f"), ANSWERS)
    assert (audited.member, audited.mechanism) == ("agg", "permute_and_flip")
    assert 0.2 < audited.verdict.epsilon <= audited.verdict.claim.epsilon == 2.0


async def test_too_little_noise_of_an_aggregator_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = central.NoisyMax

    def careless(epsilon: float, *rest: Any) -> Any:
        return honest(4 * epsilon, *rest)

    monkeypatch.setattr(central, "NoisyMax", careless)
    verdict = (await audit(aggregator(tmp_path / "f"), ANSWERS)).verdict
    assert not verdict.holds
