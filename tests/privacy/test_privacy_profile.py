"""Epsilon, delta and Gaussian noise: exact, never below what OpenDP or a plain sum says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.privacy import calibration
from fi_stream.privacy.profile import FEWEST_STEPS, delta_of, epsilon_of_rho, rho_of_epsilon

deltas = st.sampled_from([1e-12, 1e-9, 1e-6, 1e-5, 1e-3, 0.01])


def opendp_epsilon(rho: float, delta: float) -> float:
    """What OpenDP makes of a total of rho, knowing of it no more than that."""
    dp = calibration.opendp()
    space = dp.domains.atom_domain(T="i64"), dp.metrics.absolute_distance(T="f64")
    unit = dp.measurements.make_gaussian(*space, scale=1.0)
    cast = dp.combinators.make_zCDP_to_approxDP(unit)
    return float(cast.map(math.sqrt(2 * rho)).epsilon(delta))


@pytest.mark.parametrize("rho", [1e-4, 0.01, 0.3, 1.0, 7.0, 100.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-3])
def test_a_total_is_shown_at_most_as_opendp_bounds_it_and_hardly_less(
    rho: float, delta: float
) -> None:
    ours, theirs = epsilon_of_rho(rho, delta), opendp_epsilon(rho, delta)
    assert 0.7 * theirs < ours <= theirs


@given(st.floats(1e-7, 1e6), deltas)
def test_epsilon_and_rho_lead_back_to_each_other(rho: float, delta: float) -> None:
    epsilon = epsilon_of_rho(rho, delta)
    assert delta_of(epsilon, math.sqrt(2 * rho)) <= delta
    if epsilon:
        back = rho_of_epsilon(epsilon, delta)
        assert back == pytest.approx(rho, rel=1e-4)


@given(st.floats(1e-3, 32), deltas)
def test_the_noise_of_a_wanted_epsilon_is_accounted_as_that_epsilon(
    epsilon: float, delta: float
) -> None:
    scale = calibration.gaussian_scale(epsilon, delta, 1.0)
    rho = 1 / (2 * scale**2)
    assert epsilon_of_rho(rho, delta) == pytest.approx(epsilon, rel=1e-6)
    # what floats cannot tell is covered by the part of delta that is kept back
    assert epsilon_of_rho(rho, delta) <= epsilon * (1 + 1e-9)


@given(st.floats(0, 1e5), st.floats(1e-4, 1e3))
def test_delta_is_a_chance_and_falls_with_epsilon(epsilon: float, mu: float) -> None:
    here, further = delta_of(epsilon, mu), delta_of(epsilon * 1.01 + 1e-9, mu)
    assert 0 <= further <= here <= 1


def on_a_grid(epsilon: float, scale: int, shift: int) -> float:
    """Delta of discrete Gaussian noise in one dimension, summed up."""
    far = np.arange(-15 * scale - shift, 15 * scale + 1, dtype=np.float64)
    weights = np.exp(-(far**2) / (2 * scale**2))
    loss = (2 * far * shift + shift**2) / (2 * scale**2)
    return float((weights / weights.sum()) @ np.maximum(0.0, 1 - np.exp(epsilon - loss)))


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("allowed", [1e-3, 1e-6, 1e-9])
def test_noise_on_a_grid_gives_no_more_away_than_the_continuous_one(
    mu: float, allowed: float
) -> None:
    epsilon = epsilon_of_rho(mu**2 / 2, allowed)
    scale = int(FEWEST_STEPS)
    assert 0.99 * allowed < on_a_grid(epsilon, scale, round(mu * scale)) <= allowed


def test_gaussian_answers_add_up_to_less_than_their_epsilons_do() -> None:
    assert epsilon_of_rho(20 * 0.05, 1e-6) < 20 * epsilon_of_rho(0.05, 1e-6) / 3
