"""What the leader and the helper see alone tells them nothing; both together open everything.

The same tests catch shares that hide an answer under Gaussian noise instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.secagg.shares import Bound, mask, new_seed, opened, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Sharing = Callable[[NDArray[np.int64]], tuple[NDArray[np.uint64], NDArray[np.uint64]]]

GRID = 2**16
ROWS = 20_000
FIRST = np.tile(np.array([GRID, 0, 0, GRID], dtype=np.int64), (ROWS, 1))
"""[rows, 4]: three classes and the weight; the other answer is of the second class."""
SECOND = np.tile(np.array([0, GRID, 0, GRID], dtype=np.int64), (ROWS, 1))

BY_CHANCE = 0.5 + 6.5 * 0.5 / math.sqrt(ROWS)
"""The largest share of right guesses that chance explains, the best of 257 tests taken: beyond it
once in 10^8."""


def ours(values: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """What the leader and the helper get: [rows, 4] each."""
    bound = Bound("alice", b"q" * 16, b"d" * 32, "p1", *values.shape)
    seed = new_seed()
    return split(values, seed, bound), mask(seed, bound)


def gaussian(values: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Shares as some published systems make them: hidden under noise of 2^18."""
    hiding = np.random.default_rng().normal(0, 2**18, values.shape).round().astype(np.int64)
    return (values - hiding).view(np.uint64), hiding.view(np.uint64)


def unlikely(view: NDArray[np.uint64]) -> float:
    """How many standard deviations a chi-square of 256 cells is from a uniform one's: the largest.

    One test for each of the 8 bytes of the numbers.
    """
    places = view.view(np.uint8).reshape(-1, 8)
    far = []
    for place in range(8):
        counts = np.bincount(places[:, place], minlength=256)
        expected = len(places) / 256
        square = float(((counts - expected) ** 2 / expected).sum())
        far.append(abs(square - 255) / math.sqrt(2 * 255))
    return max(far)


def distinguished(sharing: Sharing, party: int) -> float:
    """How often somebody with one party's view tells two answers apart; 0.5 is by chance.

    It knows both answers, and learns from half of the views the threshold for the rest: the sign
    and size of the difference of two columns, read signed, and every single bit.
    """
    views = [sharing(answer)[party] for answer in (FIRST, SECOND)]
    half = ROWS // 2
    best = 0.5
    for features in (_differences, _bits):
        one, other = (features(view) for view in views)
        for column in range(one.shape[1]):
            middle = (one[:half, column].mean() + other[:half, column].mean()) / 2
            above = one[:half, column].mean() >= other[:half, column].mean()
            right = ((one[half:, column] >= middle) == above).mean()
            right += ((other[half:, column] >= middle) != above).mean()
            best = max(best, right / 2)
    return best


def _differences(view: NDArray[np.uint64]) -> NDArray[np.float64]:
    signed = (view[:, 0] - view[:, 1]).view(np.int64)
    return signed.astype(np.float64)[:, np.newaxis]


def _bits(view: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.unpackbits(view.view(np.uint8), axis=1).astype(np.float64)


@pytest.mark.parametrize("party", [0, 1], ids=["leader", "helper"])
@pytest.mark.parametrize("answer", [FIRST, SECOND, -FIRST], ids=["first", "second", "negative"])
def test_a_share_is_uniform_whatever_the_answer(party: int, answer: NDArray[np.int64]) -> None:
    assert unlikely(ours(answer)[party]) < 8  # beyond it once in 10^9


@pytest.mark.parametrize("party", [0, 1], ids=["leader", "helper"])
def test_one_party_tells_two_answers_apart_no_better_than_by_chance(party: int) -> None:
    assert distinguished(ours, party) <= BY_CHANCE


@pytest.mark.parametrize("party", [0, 1], ids=["leader", "helper"])
def test_the_same_test_says_that_gaussian_shares_are_not_uniform(party: int) -> None:
    assert unlikely(gaussian(FIRST)[party]) > 1000


def test_the_same_test_tells_answers_apart_under_gaussian_shares() -> None:
    assert distinguished(gaussian, 0) > BY_CHANCE


def test_both_views_together_open_every_answer() -> None:
    """The documented limit: leader and helper together see what each participant said."""
    assert (opened(*ours(FIRST)) == FIRST).all()


def test_a_sum_is_all_that_two_sums_say() -> None:
    """Other answers with the same sum give the client the same."""
    draw = np.random.default_rng(3)
    answers = draw.integers(0, GRID, (3, 5, 4))
    moved = np.array([[1], [-1], [0]])[:, :, np.newaxis] * draw.integers(0, GRID, (1, 5, 4))
    others = answers + moved
    for one in (answers, others):
        leader, helper = zip(*map(ours, one), strict=True)
        total = opened(np.add.reduce(leader), np.add.reduce(helper))
        assert (total == answers.sum(axis=0)).all()
