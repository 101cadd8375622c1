"""The noise in a secure sum: as much as is declared, whoever drops out, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fi_stream.errors import ConfigError
from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import SecaggPolicy
from fi_stream.privacy import calibration
from fi_stream.privacy.sums import CAP_STEPS, SumNoise, part_of, refuse_own
from fi_stream.privacy.weighted import l2_sensitivity
from fi_stream.secagg.shares import Bound, added, mask, new_seed, opened, split

ROWS = 8_000
"""Four numbers of each: 5 % is six standard deviations of their variance."""

PARTICIPANTS = 5
POLICY = SecaggPolicy(k_min=4, colluders=1, epsilon=4.0, delta=1e-5)


def own(epsilon: float, delta: float = 1e-5) -> PrivacySection:
    return PrivacySection(
        mechanism=Mechanism.GAUSSIAN, epsilon=epsilon, delta=delta, budget=1000, ledger="ledger"
    )


@pytest.fixture(scope="module")
def parts() -> list[tuple[np.ndarray, bytes, Bound]]:
    """What leaves each of five participants: the leader's share, and the helper's."""
    made = []
    for number in range(PARTICIPANTS):
        noise = SumNoise(POLICY)
        answer = np.tile([0.25, 0.5, 0.25, 1.0], (ROWS, 1))
        seed, bound = new_seed(), Bound("alice", b"q" * 16, b"d" * 32, f"p{number}", ROWS, 4)
        made.append((split(noise.release(answer), seed, bound), seed, bound))
    return made


@pytest.mark.parametrize("dropped", [0, 1])
def test_the_variance_that_a_client_sees_is_the_declared_one_also_after_a_drop_out(
    parts: list[tuple[np.ndarray, bytes, Bound]], dropped: int
) -> None:
    there = parts[dropped:]
    leader = added(half for half, _, _ in there)
    helper = added(mask(seed, bound) for _, seed, bound in there)
    total = opened(leader, helper) - len(there) * np.array([16384, 32768, 16384, 65536])
    declared = len(there) * part_of(POLICY) ** 2
    assert float(np.var(total)) == pytest.approx(declared, rel=0.05)
    assert abs(total.mean()) < 6 * math.sqrt(declared / total.size)


def test_as_many_honest_parts_as_are_counted_on_are_the_whole_noise() -> None:
    whole = calibration.gaussian_scale(4.0, 1e-5, l2_sensitivity(CAP_STEPS))
    assert part_of(POLICY) * math.sqrt(POLICY.honest) == pytest.approx(whole, rel=1e-12)
    assert part_of(POLICY) * math.sqrt(POLICY.honest) >= whole


def test_without_epsilon_the_sum_is_exact_and_costs_nothing() -> None:
    policy = SecaggPolicy(k_min=2)
    noise = SumNoise(policy)
    assert part_of(policy) == 0
    assert noise.cost is None
    released = noise.release(np.array([[0.25, 0.75, 1.0]]))
    assert released.tolist() == [[16384, 49152, 65536]]


def test_a_row_costs_the_policys_epsilon_and_declares_it() -> None:
    noise = SumNoise(POLICY)
    assert noise.cost is not None
    declared = noise.declare(1, noise.cost)
    assert declared.epsilon == pytest.approx(4.0, rel=1e-6)
    assert declared.epsilon <= declared.total <= 4.1
    assert declared.delta == 1e-5
    assert noise.declare(3, noise.cost.times(3)).epsilon > 4.0


@pytest.mark.parametrize(
    ("privacy", "why"),
    [
        (PrivacySection(mechanism=Mechanism.NONE), "gaussian"),
        (own(3.9), "epsilon 4"),
        (own(4.0, 1e-6), "delta 1e-05"),
    ],
    ids=["none", "less epsilon", "less delta"],
)
def test_a_member_that_allows_less_than_the_policy_asks_for_is_refused(
    privacy: PrivacySection, why: str
) -> None:
    refused = refuse_own(POLICY, privacy)
    assert refused is not None
    assert why in refused


def test_a_member_that_wants_noise_is_not_let_into_exact_sums() -> None:
    refused = refuse_own(SecaggPolicy(k_min=2), own(8.0))
    assert refused is not None
    assert "no noise" in refused


def test_a_member_that_allows_as_much_or_more_is_let_in() -> None:
    assert refuse_own(POLICY, own(4.0)) is None
    assert refuse_own(POLICY, own(8.0, 1e-4)) is None
    assert refuse_own(SecaggPolicy(k_min=2), PrivacySection(mechanism=Mechanism.NONE)) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"k_min": 1}, "k_min"),
        ({"k_min": 3, "colluders": 2}, "colluders"),
        ({"k_min": 2, "epsilon": 1.0}, "delta"),
        ({"k_min": 2, "delta": 1e-5}, "epsilon"),
        ({"k_min": 2, "epsilon": 0.0, "delta": 1e-5}, "epsilon"),
        ({"k_min": 2, "epsilon": math.inf, "delta": 1e-5}, "epsilon"),
    ],
    ids=str,
)
def test_a_policy_that_hides_nothing_is_refused(fields: dict[str, float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SecaggPolicy.model_validate(fields)


def test_a_sum_without_noise_declares_none() -> None:
    noise = SumNoise(POLICY)
    assert noise.cost is not None
    with pytest.raises(ConfigError):
        SumNoise(SecaggPolicy(k_min=2)).declare(1, noise.cost)
