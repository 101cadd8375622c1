from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Selection
from fi_stream.privacy import calibration
from fi_stream.privacy.selection import NoisyMax

if TYPE_CHECKING:
    from fi_stream.privacy.draws import Kind

ANSWERS = 20_000


def permute_and_flip(scores: list[int], epsilon: float) -> list[float]:
    """The chance of each class: over all orders, the first that its own coin accepts."""
    coins = [math.exp(-epsilon * (max(scores) - score) / 2) for score in scores]
    chances = [0.0] * len(scores)
    orders = list(itertools.permutations(range(len(scores))))
    for order in orders:
        left = 1.0 / len(orders)
        for one in order:
            chances[one] += left * coins[one]
            left *= 1 - coins[one]
    return chances


def exponential(scores: list[int], epsilon: float) -> list[float]:
    weights = [math.exp(epsilon * score / 2) for score in scores]
    return [weight / sum(weights) for weight in weights]


EXACT = {Selection.PERMUTE_AND_FLIP: permute_and_flip, Selection.EXPONENTIAL: exponential}


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("votes", [[0, 3, 2], [1, 1, 1], [0, 0, 5, 0], [2, 0, 2, 1]])
def test_classes_are_picked_as_often_as_declared(selection: Selection, votes: list[int]) -> None:
    labels = NoisyMax(1.0, selection).labels(np.repeat([votes], ANSWERS, axis=0))
    told = np.bincount(labels, minlength=len(votes)) / ANSWERS
    for seen, chance in zip(told, EXACT[selection](votes, 1.0), strict=True):
        by_chance = 6.5 * math.sqrt(chance * (1 - chance) / ANSWERS)  # once in 10^10
        # the variance of a class's share of the answers, within 5 % and what chance adds
        bound = 0.05 * chance * (1 - chance) + by_chance
        assert abs(seen * (1 - seen) - chance * (1 - chance)) < bound
        assert abs(seen - chance) < by_chance + 1e-9


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_another_answer_of_one_voter_changes_no_chance_by_more_than_epsilon(
    selection: Selection, epsilon: float
) -> None:
    exact = EXACT[selection]
    for votes in itertools.product(range(4), repeat=3):
        for loser, winner in itertools.permutations(range(3), 2):
            if votes[loser]:
                other = list(votes)
                other[loser], other[winner] = other[loser] - 1, other[winner] + 1
                pairs = zip(exact(list(votes), epsilon), exact(other, epsilon), strict=True)
                assert all(one <= two * math.exp(epsilon) * (1 + 1e-9) for one, two in pairs)


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("epsilon", [0.001, 0.1, 1.0, 8.0, 32.0])
def test_opendp_never_accounts_noisy_max_above_the_declared_epsilon(
    selection: Selection, epsilon: float
) -> None:
    scale = calibration.noisy_max_scale(selection, epsilon)
    assert epsilon * (1 - 1e-9) < calibration.noisy_max_epsilon(selection, scale) < epsilon


class First:
    """Noise that always picks the first place: the class with the most votes."""

    def take(self, kind: Kind, count: int) -> np.ndarray:
        del kind
        return np.zeros(count, dtype=np.int64)


@given(
    arrays.arrays(
        np.int64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.integers(0, 9)
    )
)
def test_each_row_is_told_by_its_own_votes(votes: np.ndarray) -> None:
    labels = NoisyMax(1.0, source=First()).labels(votes)
    assert (np.take_along_axis(votes, labels[:, None], axis=1)[:, 0] == votes.max(axis=1)).all()


def test_an_absurd_epsilon_is_refused() -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        NoisyMax(0.0)
