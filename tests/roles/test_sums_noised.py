"""Noise, charges and the guarantee of secure sums in the running roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import names_of, rows

from fi_stream import connect
from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Limits, Protection, SecaggPolicy
from fi_stream.roles.participant import run_participant

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

EVERYONE = ("p1", "p2", "p3", "agg", "helper")
POLICY: dict[str, Any] = {
    "protections": (Protection.SECAGG,),
    "rules": ("soft",),
    "quorum": 2,
    "secagg": SecaggPolicy(k_min=3, colluders=1, epsilon=16.0, delta=1e-5),
    "limits": Limits(hop_ms=300),
}


def gaussian(epsilon: float, budget: float) -> str:
    return (
        f'mechanism = "gaussian"\nepsilon = {epsilon}\ndelta = 1e-5\nbudget = {budget}\n'
        'ledger = "budget.ledger"'
    )


async def test_a_sum_says_its_noise_of_whom_it_depends_and_what_it_cost(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=gaussian(20.0, 200.0), policy=POLICY)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = (await client.ask(rows(1), deadline=5.0)).guarantee
        second = (await client.ask(rows(1), deadline=5.0)).guarantee
    assert first is not None
    assert second is not None
    assert first.mechanism == "gaussian"
    assert first.epsilon_query == pytest.approx(16.0, rel=1e-6)
    assert first.honest == 2
    assert second.epsilon_total > 16.5
    assert "at least 2 contributors are honest" in first.sentence
    assert "the leader and the helper, each alone, see nothing" in first.sentence


async def test_a_sum_under_little_noise_has_the_right_labels(build: Callable[..., Stage]) -> None:
    little = SecaggPolicy(k_min=3, colluders=1, epsilon=32.0, delta=1e-5)
    stage = build(privacy=gaussian(32.0, 1000.0), policy={**POLICY, "secagg": little})
    drawn = 9 * np.eye(3, 4, dtype=np.float32)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn, deadline=5.0)
    assert result.labels == names_of(drawn)  # six standard deviations of the noise apart


async def test_a_spent_budget_leaves_the_sum_to_the_others_or_to_nobody(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=gaussian(16.0, 17.0), policy=POLICY)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(1), deadline=5.0)).outcome == "complete"
        result = await client.ask(rows(1), deadline=5.0)
    assert result.outcome == "no_quorum"
    assert result.missing == dict.fromkeys(("p1", "p2", "p3"), "over_budget")


async def test_a_participant_that_allows_less_than_the_policy_asks_for_does_not_start(
    build: Callable[..., Stage],
) -> None:
    import asyncio  # noqa: PLC0415 -- of this test alone

    stage = build(privacy=gaussian(8.0, 100.0), policy=POLICY)
    with pytest.raises(ConfigError, match="costs epsilon 16"):
        await run_participant(stage.file("p1"), asyncio.Event())
