"""The digits are divided once and for all: nothing lost, nothing shared, nobody left empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fi_stream.demo.data import Digits, Division, divide, load_digits, queries, task
from fi_stream.errors import ConfigError


def numbered(count: int) -> Digits:
    """Pictures that can be told apart by their first pixel."""
    images = np.zeros((count, 64), dtype=np.float32)
    images[:, 0] = np.arange(count) / 2048
    return Digits(images, np.arange(count) % 10)


def names(digits: Digits) -> list[float]:
    return digits.images[:, 0].tolist()


@given(
    participants=st.integers(1, 100),
    alpha=st.floats(0.01, 1e6),
    seed=st.integers(0, 2**32),
    count=st.integers(400, 1797),
)
@settings(max_examples=50, deadline=None)
def test_every_digit_has_one_place_and_everybody_has_some(
    participants: int, alpha: float, seed: int, count: int
) -> None:
    digits = numbered(count)
    parts, test = divide(digits, Division(participants, alpha, seed))
    placed = [name for part in (*parts, test) for name in names(part)]
    assert sorted(placed) == names(digits)
    assert len(parts) == participants
    assert min(len(part) for part in parts) >= max(1, (count - len(test)) // (10 * participants))


def test_equal_divisions_divide_alike_and_another_seed_does_not() -> None:
    digits = numbered(1000)
    first, again, other = (divide(digits, Division(seed=seed)) for seed in (1, 1, 2))
    assert [names(part) for part in first[0]] == [names(part) for part in again[0]]
    assert names(first[1]) == names(again[1])
    assert names(first[1]) != names(other[1])


def test_a_small_alpha_gives_participants_classes_of_their_own() -> None:
    def largest_share(alpha: float) -> float:
        parts, _ = divide(numbered(1797), Division(5, alpha))
        held = np.array([np.bincount(part.labels, minlength=10) for part in parts])
        return float(np.mean(held.max(axis=0) / held.sum(axis=0)))

    assert largest_share(100) < 0.3
    assert largest_share(0.05) > 0.7


def test_digits_are_scaled_to_one() -> None:
    digits = load_digits()
    assert digits.images.shape == (1797, 64)
    assert digits.images.dtype == np.float32
    assert digits.labels.dtype == np.int64
    assert (digits.images.min(), digits.images.max()) == (0.0, 1.0)
    assert set(digits.labels.tolist()) == set(range(10))
    assert len(divide(digits, Division())[1]) >= 300


def test_the_task_takes_the_digits_as_they_are() -> None:
    asked = task()
    assert [(spec.name, spec.datatype.value, spec.shape) for spec in asked.inputs] == [
        ("image", "FP32", (64,))
    ]
    assert asked.classes == tuple("0123456789")


def test_more_queries_than_test_digits_begin_again() -> None:
    test = numbered(4)
    assert_array_equal(queries(test, 3).labels, [0, 1, 2])
    assert_array_equal(queries(test, 10).labels, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("participants", [0, -1, 101])
def test_too_few_or_too_many_participants_are_refused(participants: int) -> None:
    with pytest.raises(ConfigError, match="--participants"):
        Division(participants)


@pytest.mark.parametrize("alpha", [0.0, -1.0, 0.009, 2e6, float("inf"), float("nan")])
def test_an_alpha_that_divides_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="--alpha"):
        Division(alpha=alpha)
