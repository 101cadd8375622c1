from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import Form
from fi_stream.privacy.building import build
from fi_stream.privacy.draws import Offsets, draw
from fi_stream.privacy.mechanisms import (
    GRID,
    DiscreteGaussian,
    NoNoise,
    RandomisedResponse,
)
from fi_stream.privacy.selection import ShardVotes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fi_stream.privacy.draws import Kind

ANSWERS = 20_000


def far_from(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> bool:
    """Whether counts are further from expected ones than chance makes them once in 10^9."""
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = len(counts) - 1
    return bool(chi_square > freedom + 6 * math.sqrt(2 * freedom) + 40)


def sure_of(label: int, classes: int, rows: int = 1) -> NDArray[np.float64]:
    prediction = np.zeros((rows, classes))
    prediction[:, label] = 1.0
    return prediction


@pytest.mark.parametrize(("epsilon", "classes"), [(1.0, 2), (2.0, 10), (4.0, 10), (8.0, 2)])
def test_labels_are_told_as_often_as_declared_and_lies_are_alike(
    epsilon: float, classes: int
) -> None:
    truth = classes - 1
    answers = RandomisedResponse(classes, epsilon).release(sure_of(truth, classes, ANSWERS)).values
    counts = np.bincount(answers, minlength=classes)
    keep = math.exp(epsilon) / (math.exp(epsilon) + classes - 1)
    assert counts[truth] / ANSWERS == pytest.approx(keep, rel=0.05)
    expected = np.full(classes, ANSWERS * (1 - keep) / (classes - 1))
    expected[truth] = ANSWERS * keep
    assert not far_from(counts, expected)


@pytest.mark.parametrize("classes", [2, 3, 6, 9, 10])
@pytest.mark.parametrize("keep", [0.5, 0.7, 0.9])
def test_offsets_have_the_distribution_of_randomised_response(classes: int, keep: float) -> None:
    count = 6_000
    counts = np.bincount(draw(Offsets(classes, keep), count), minlength=classes)
    expected = np.full(classes, count * (1 - keep) / (classes - 1))
    expected[0] = count * keep
    assert len(counts) == classes
    assert not far_from(counts, expected)


@pytest.mark.parametrize("count", [0, 1, 255, 257])
def test_as_many_offsets_come_as_were_asked_for(count: int) -> None:
    assert draw(Offsets(5, 0.2), count).shape == (count,)


def test_offsets_do_not_depend_on_the_one_before() -> None:
    offsets = draw(Offsets(2, 0.5), 40_000)
    assert np.corrcoef(offsets[:-1], offsets[1:])[0, 1] == pytest.approx(0, abs=0.035)


def test_gaussian_noise_has_the_declared_variance_and_no_bias() -> None:
    prediction = np.array([[0.7, 0.2, 0.1]])
    mechanism = DiscreteGaussian(4.0, 1e-5)
    released = mechanism.release(np.repeat(prediction, ANSWERS, axis=0))
    noise = released.values / GRID - prediction
    assert noise.var() == pytest.approx(mechanism.sigma**2, rel=0.05)
    assert (noise**2).mean(axis=0) == pytest.approx(mechanism.sigma**2, rel=0.1)
    assert noise.mean() == pytest.approx(0, abs=0.05 * mechanism.sigma)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.05


def test_gaussian_answers_are_integers_on_the_grid() -> None:
    released = DiscreteGaussian(32.0, 0.01).release(sure_of(1, 3, 4))
    assert (released.form, released.scale) == (Form.PROBABILITIES, GRID)
    assert released.values.dtype == np.int64
    assert released.values.shape == (4, 3)


def on_simplex(steps: int, classes: int) -> Iterator[tuple[int, ...]]:
    """All vectors of multiples of 1 / (2 steps) that add up to one."""
    for parts in itertools.product(range(2 * steps + 1), repeat=classes - 1):
        if sum(parts) <= 2 * steps:
            yield (*parts, 2 * steps - sum(parts))


@pytest.mark.parametrize(("steps", "classes"), [(1, 4), (2, 4), (4, 4), (3, 5), (8, 3)])
def test_rounded_predictions_are_no_further_apart_than_the_sensitivity(
    steps: int, classes: int
) -> None:
    halves = np.array(list(on_simplex(steps, classes)))
    rounded = np.unique((halves + 1) // 2, axis=0)
    distances = ((rounded[:, None] - rounded[None]) ** 2).sum(axis=2)
    assert distances.max() <= 2 * steps**2 + 2
    if classes >= 4:
        assert distances.max() == 2 * steps**2 + 2


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40).filter(lambda p: sum(p) > 0))
def test_a_rounded_prediction_stays_within_the_bound_on_the_real_grid(weights: list[float]) -> None:
    prediction = np.array(weights) / sum(weights)
    steps = np.floor(prediction * GRID + 0.5)
    assert (steps**2).sum() <= GRID**2 + 1


def test_without_noise_the_prediction_leaves_as_it_is() -> None:
    prediction = np.array([[0.25, 0.75], [0.5, 0.5]])
    released = NoNoise(Form.PROBABILITIES).release(prediction)
    assert np.array_equal(released.values, prediction)
    assert NoNoise(Form.LABEL).release(prediction).values.tolist() == [1, 0]


def test_without_noise_nothing_is_promised_or_charged() -> None:
    mechanism = build(PrivacySection(mechanism=Mechanism.NONE), Form.LABEL, 10)
    assert mechanism.cost is None


def test_a_query_of_seven_rows_costs_and_declares_seven_times_a_row() -> None:
    mechanism = RandomisedResponse(10, 0.1)
    noise = mechanism.declare(7, mechanism.cost.times(21))
    assert mechanism.cost.amount == 100_000_000
    assert (noise.epsilon, noise.total, noise.delta) == (0.7, 2.1, 0.0)


def test_one_gaussian_row_declares_its_epsilon_and_more_rows_less_than_their_sum() -> None:
    mechanism = DiscreteGaussian(2.0, 1e-6)
    noise = mechanism.declare(1, mechanism.cost.times(4))
    assert noise.epsilon == pytest.approx(2.0, rel=1e-6)
    assert 2.0 < noise.total < 8.0


def test_a_budget_of_one_row_pays_for_one_row() -> None:
    for mechanism in (RandomisedResponse(10, 0.1), DiscreteGaussian(2.0, 1e-6)):
        one = mechanism.limit(0.1 if mechanism.form is Form.LABEL else 2.0 * (1 + 1e-6))
        assert mechanism.cost.amount <= one.amount < 2 * mechanism.cost.amount


def section(mechanism: Mechanism, epsilon: float = 1.0, **more: object) -> PrivacySection:
    given = {"epsilon": epsilon, "budget": 100.0, "ledger": Path("ledger"), **more}
    return PrivacySection(mechanism=mechanism, **given)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 64.0, math.inf, math.nan])
def test_a_mechanism_with_an_absurd_epsilon_is_not_built(epsilon: float) -> None:
    for made in (
        lambda: RandomisedResponse(10, epsilon),
        lambda: DiscreteGaussian(epsilon, 1e-6),
        lambda: ShardVotes(5, epsilon),
    ):
        with pytest.raises(ConfigError, match="epsilon"):
            made()


def test_each_mechanism_of_a_member_file_is_built_with_its_parameters() -> None:
    told = build(section(Mechanism.RANDOMISED_RESPONSE, weight_levels=3), Form.LABEL, 10)
    assert isinstance(told, RandomisedResponse)
    assert told.categories == 30
    noised = build(section(Mechanism.GAUSSIAN, delta=1e-6), Form.PROBABILITIES, 10)
    assert isinstance(noised, DiscreteGaussian)
    assert isinstance(build(section(Mechanism.NOISY_MAX), Form.LABEL, 10, models=7), ShardVotes)


def test_a_mechanism_of_another_form_than_the_policy_is_not_built() -> None:
    with pytest.raises(ConfigError, match=r"gives form 'label'.*form = 'probabilities'"):
        build(section(Mechanism.RANDOMISED_RESPONSE), Form.PROBABILITIES, 10)


def test_label_and_weight_are_told_together_as_often_as_declared() -> None:
    row = np.array([[0.1, 0.85, 0.05]])  # its weight, exp(-entropy), is 0.596: level 2 of 0 .. 3
    mechanism = RandomisedResponse(3, 3.0, levels=4)
    released = mechanism.release(np.repeat(row, ANSWERS, axis=0))
    assert released.scale == 4
    counts = np.bincount(released.values.astype(np.int64), minlength=12)
    keep = math.exp(3) / (math.exp(3) + 11)
    expected = np.full(12, ANSWERS * (1 - keep) / 11)
    expected[1 * 4 + 2] = ANSWERS * keep
    assert not far_from(counts, expected)


@given(st.integers(2, 16), st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_every_label_with_a_weight_is_a_category(levels: int, weights: list[float]) -> None:
    row = np.array([weights]) + 1e-9
    mechanism = RandomisedResponse(len(weights), 1.0, levels, source=Nothing())
    value = int(mechanism.release(row / row.sum()).values[0])
    assert value // levels == row.argmax()
    assert 0 <= value % levels < levels


class Nothing:
    """Noise that is not there."""

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        del kind
        return np.zeros(count, dtype=np.int64)


def test_votes_of_shards_are_told_as_often_as_declared() -> None:
    shares = np.repeat([[0.0, 0.6, 0.4]], ANSWERS, axis=0)
    labels = ShardVotes(5, 1.0).release(shares).values
    counts = np.bincount(labels.astype(np.int64), minlength=3)
    # what permute-and-flip says of the votes 0, 3, 2 (tests/privacy/vectors)
    expected = ANSWERS * np.array([0.08900919953477947, 0.6302813511483393, 0.2807094493168813])
    assert not far_from(counts, expected)
