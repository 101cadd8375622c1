"""Our sums of charges against OpenDP's own composition of the same mechanisms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.federation.policy import Selection
from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.mechanisms import GRID, DiscreteGaussian, RandomisedResponse
from fi_stream.privacy.selection import NoisyMax, ShardVotes
from fi_stream.privacy.weighted import WeightedGaussian, l2_sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

epsilons = st.floats(0.001, 32)
counts = st.integers(1, 12)
UNIT = Fraction(1, 10**9)


def composed(measurements: Sequence[Any], distance: float) -> float:
    """What OpenDP says that all of these together cost."""
    made = calibration.opendp().combinators.make_composition(list(measurements))
    return float(made.map(distance))


def label(epsilon: float) -> tuple[Charge, Any]:
    ours = RandomisedResponse(10, epsilon)
    dp = calibration.opendp().measurements
    return ours.cost, dp.make_randomized_response(list(range(10)), ours.keep)


def votes(epsilon: float) -> tuple[Charge, Any]:
    ours = NoisyMax(epsilon)
    assert ShardVotes(5, epsilon).cost == ours.cost
    return ours.cost, calibration.noisy_max(Selection.PERMUTE_AND_FLIP, ours.scale)


@pytest.mark.parametrize("made", [label, votes])
@settings(max_examples=40, deadline=None)
@given(st.lists(epsilons, min_size=1, max_size=12))
def test_pure_epsilons_add_up_to_no_less_than_opendp_s_composition(
    made: Callable[[float], tuple[Charge, Any]], wanted: list[float]
) -> None:
    charges, measurements = zip(*map(made, wanted), strict=True)
    total = sum(charge.amount for charge in charges) * UNIT
    # OpenDP adds floats up, each sum rounded up.
    theirs = composed(measurements, 1) * (1 - 1e-14)
    assert theirs <= total
    # A billionth each, and what probabilities near 1 cannot say in a float.
    assert float(total) <= theirs * 1.02 + len(wanted) * (1e-9 + 0.02)


def noised(epsilon: float) -> tuple[Charge, Any, float]:
    ours = DiscreteGaussian(epsilon, 1e-6)
    distance = math.nextafter(math.sqrt(2 * GRID**2 + 2), math.inf)
    return ours.cost, calibration.gaussian(ours.sigma * GRID), distance


def summed(epsilon: float) -> tuple[Charge, Any, float]:
    ours = WeightedGaussian(epsilon, 1e-6)
    return ours.cost, calibration.gaussian(ours.sigma * GRID), l2_sensitivity(GRID)


@pytest.mark.parametrize("made", [noised, summed])
@settings(max_examples=40, deadline=None)
@given(st.lists(epsilons, min_size=1, max_size=12))
def test_rho_adds_up_to_no_less_than_opendp_s_composition(
    made: Callable[[float], tuple[Charge, Any, float]], wanted: list[float]
) -> None:
    charges, measurements, distances = zip(*map(made, wanted), strict=True)
    total = sum(charge.amount for charge in charges) * UNIT
    theirs = composed(measurements, distances[0]) * (1 - 1e-14)
    assert theirs <= total
    assert float(total) <= theirs * (1 + 1e-9) + len(wanted) * 2e-9


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 8), counts)
def test_the_epsilon_of_a_total_is_within_opendp_s_own_of_the_same_composition(
    epsilon: float, count: int
) -> None:
    cost, measurement, distance = noised(epsilon)
    dp = calibration.opendp().combinators
    together = dp.make_zCDP_to_approxDP(dp.make_composition([measurement] * count))
    theirs = float(together.map(distance).epsilon(1e-6))
    ours = calibration.epsilon_of(cost.times(count), 1e-6)
    assert 0.8 * theirs < ours <= theirs


def test_a_million_tiny_answers_are_counted_one_by_one() -> None:
    ours = RandomisedResponse(10, 0.001)
    many = ours.cost.times(1_000_000)
    assert many == Charge(Unit.NANO_EPSILON, 10**12)
