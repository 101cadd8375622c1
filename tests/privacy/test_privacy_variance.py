"""Noise that is there: 40,000 answers to one prediction, as whoever decides reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.aggregation.answers import prediction_of
from fi_stream.events.payloads import Answer
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Tensor, to_tensor
from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import Form, Selection
from fi_stream.privacy.building import build
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.selection import NoisyMax
from fi_stream.privacy.weighted import WeightedGaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANSWERS = 40_000
"""So many that 5 % is six standard deviations of each variance, or more."""

CLASSES = 3
PREDICTION = np.array([0.1, 0.6, 0.3])
EPSILON = 2.0


def read(mechanism: Mechanism, epsilon: float = EPSILON, **more: object) -> NDArray[np.float64]:
    """Many answers to one prediction, made by a participant and read by whoever decides."""
    privacy = PrivacySection.model_validate(
        {
            "mechanism": mechanism,
            "epsilon": epsilon,
            "budget": 1e9,
            "ledger": Path("ledger"),
            **more,
        }
    )
    form = Form.PROBABILITIES if mechanism is Mechanism.GAUSSIAN else Form.LABEL
    released = build(privacy, form, CLASSES, models=10).release(np.tile(PREDICTION, (ANSWERS, 1)))
    tensor = to_tensor(released.form.value, released.values)
    assert isinstance(tensor, Tensor)
    answer = Answer(form=released.form.value, outputs=(tensor,), scale=released.scale)
    found = prediction_of(answer, form, ANSWERS, CLASSES)
    assert not isinstance(found, Refusal)
    return found


def assert_varies(seen: NDArray[np.float64], declared: NDArray[np.float64]) -> None:
    """The variance of each column, within 5 % of all that was declared."""
    assert np.abs(seen.var(axis=0) - declared).max() < 0.05 * declared.max()
    assert seen.var(axis=0).sum() == pytest.approx(declared.sum(), rel=0.05)


def of_votes(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    return chances * (1 - chances)


def test_randomised_response() -> None:
    keep = math.exp(EPSILON) / (math.exp(EPSILON) + CLASSES - 1)
    chances = np.full(CLASSES, (1 - keep) / (CLASSES - 1))
    chances[1] = keep
    assert_varies(read(Mechanism.RANDOMISED_RESPONSE), of_votes(chances))


def test_randomised_response_with_a_weight() -> None:
    levels = 4
    keep = math.exp(EPSILON) / (math.exp(EPSILON) + CLASSES * levels - 1)
    weights = np.arange(1, levels + 1) / levels
    chances = np.full((CLASSES, levels), (1 - keep) / (CLASSES * levels - 1))
    sureness = math.exp(float((PREDICTION * np.log(PREDICTION)).sum()))
    chances[1, int(sureness * levels)] = keep
    mean, square = chances @ weights, chances @ weights**2
    assert_varies(read(Mechanism.RANDOMISED_RESPONSE, weight_levels=levels), square - mean**2)


def test_gaussian() -> None:
    seen = read(Mechanism.GAUSSIAN, delta=1e-5)
    # the least that is enough (Balle and Wang 2018), for probabilities sqrt(2) apart
    sigma = 2.81968
    assert_varies(seen, np.full(CLASSES, sigma**2))
    assert seen.mean(axis=0) == pytest.approx(PREDICTION, abs=6 * sigma / math.sqrt(ANSWERS))


def flipped(votes: list[int], epsilon: float) -> NDArray[np.float64]:
    """The chances of permute-and-flip for three classes."""
    coins = np.exp(-epsilon * (max(votes) - np.array(votes)) / 2)
    chances = np.zeros(3)
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        left = 1 / 6
        for one in order:
            chances[one] += left * coins[one]
            left *= 1 - coins[one]
    return chances


def test_noisy_max_on_the_votes_of_ten_models() -> None:
    # few enough agree, so that the variance itself is well known after so many answers
    assert_varies(read(Mechanism.NOISY_MAX, 0.5), of_votes(flipped([1, 6, 3], 0.5)))


@pytest.mark.parametrize("selection", Selection)
def test_noisy_max_of_the_aggregator(selection: Selection) -> None:
    votes = [2, 1, 0]
    labels = NoisyMax(EPSILON, selection).labels(np.tile(votes, (ANSWERS, 1)))
    likely = np.exp(EPSILON * np.array(votes) / 2)
    chances = {
        Selection.PERMUTE_AND_FLIP: flipped(votes, EPSILON),
        Selection.EXPONENTIAL: likely / likely.sum(),
    }[selection]
    assert_varies(np.eye(3)[labels], of_votes(chances))


@pytest.mark.parametrize(("answered", "honest"), [(5, 5), (4, 4), (5, 3)])
def test_a_sum_carries_at_least_the_declared_noise(answered: int, honest: int) -> None:
    contribution = np.append(PREDICTION, 1.0)
    mechanism = WeightedGaussian(EPSILON, 1e-5, honest)
    told = np.tile(contribution, (ANSWERS // answered, 1))
    total = np.sum([mechanism.release(told) for _ in range(answered)], axis=0) / GRID
    noise = total - answered * contribution
    assert noise.var() == pytest.approx(mechanism.sigma**2 * answered / honest, rel=0.05)
    assert mechanism.sigma == pytest.approx(2.81968, rel=0.001)


def test_without_noise_answers_are_exact() -> None:
    privacy = PrivacySection(mechanism=Mechanism.NONE)
    released = build(privacy, Form.PROBABILITIES, CLASSES).release(PREDICTION[np.newaxis])
    assert np.array_equal(released.values, PREDICTION[np.newaxis])
    assert released.scale is None
