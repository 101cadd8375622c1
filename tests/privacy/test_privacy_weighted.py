"""Noise on contributions to a sum: how far two can be apart, and what the sum carries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.privacy import calibration
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.weighted import WeightedGaussian, l2_sensitivity, whole_steps

ROWS = 8_000
"""Four numbers of each: 5 % is six standard deviations of their variance."""


@st.composite
def contributions(draw: st.DrawFn, classes: int) -> np.ndarray:
    """[w p, w]: any weight, and probabilities that are often where rounding hurts."""
    weight = draw(st.sampled_from([0.0, 0.5 / GRID, 1.0, 1 - 0.5 / GRID]) | st.floats(0, 1))
    if draw(st.booleans()):
        halves = draw(st.lists(st.integers(0, 4), min_size=classes, max_size=classes))
        p = (np.array(halves) + 0.5) / GRID
        p[draw(st.integers(0, classes - 1))] += max(0.0, 1 - p.sum())
        p /= p.sum()
    else:
        drawn = st.floats(0, 1, allow_subnormal=False)
        weights = np.array(draw(st.lists(drawn, min_size=classes, max_size=classes)))
        p = (weights + 1e-12) / (weights + 1e-12).sum()
    return np.append(weight * p, weight)


@settings(max_examples=500)
@given(st.data(), st.integers(2, 40))
def test_no_two_contributions_are_further_apart_than_the_sensitivity(
    data: st.DataObject, classes: int
) -> None:
    pair = [data.draw(contributions(classes)) for _ in range(2)]
    one, two = whole_steps(np.stack(pair), GRID)
    assert math.sqrt(((one - two) ** 2).sum()) <= l2_sensitivity(GRID)


@pytest.mark.parametrize(("steps", "classes"), [(1, 4), (2, 4), (3, 3), (4, 3)])
def test_the_sensitivity_holds_for_every_pair_on_a_coarse_grid(steps: int, classes: int) -> None:
    fine = 4 * steps  # quarters of a step, so that halves and what is just below them are there
    found = set()
    for weight in range(fine + 1):
        for parts in np.ndindex(*(weight + 1,) * (classes - 1)):
            if sum(parts) <= weight:
                exact = np.array([*parts, weight - sum(parts), weight]) / 4
                found.add(tuple(np.clip(np.floor(exact + 0.5), 0, steps).astype(int)))
    vectors = np.array(sorted(found))
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    assert math.sqrt(squared.max()) <= l2_sensitivity(steps)
    if classes >= 4:
        assert squared.max() == 2 * steps**2 + 2


def test_contributions_beyond_the_cap_are_clipped_before_the_noise() -> None:
    wild = np.array([[5.0, -3.0, 0.5, 1e9]])
    assert whole_steps(wild, GRID).tolist() == [[GRID, 0, GRID // 2, GRID]]


@pytest.mark.parametrize("honest", [1, 2, 7])
def test_the_parts_of_the_honest_make_up_the_declared_noise(honest: int) -> None:
    row = np.array([0.6, 0.15, 0.05, 0.8])
    mechanism = WeightedGaussian(4.0, 1e-5, honest)
    noised = sum(mechanism.release(np.repeat([row], ROWS, axis=0)) for _ in range(honest))
    noise = noised / GRID - honest * row
    assert noise.var() == pytest.approx(mechanism.sigma**2, rel=0.05)
    assert mechanism.part * math.sqrt(honest) == pytest.approx(mechanism.sigma, rel=1e-9)


def test_the_charge_is_that_of_the_whole_noise_whoever_adds_a_part() -> None:
    alone, shared = WeightedGaussian(2.0, 1e-6), WeightedGaussian(2.0, 1e-6, honest=9)
    assert alone.cost == shared.cost
    assert calibration.epsilon_of(alone.cost, 1e-6) == pytest.approx(2.0, rel=1e-6)


def test_a_larger_cap_needs_as_much_more_noise() -> None:
    one, four = WeightedGaussian(2.0, 1e-6), WeightedGaussian(2.0, 1e-6, cap=4.0)
    assert four.sigma == pytest.approx(4 * one.sigma, rel=1e-6)


def test_an_absurd_epsilon_is_refused() -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        WeightedGaussian(64.0, 1e-6)
