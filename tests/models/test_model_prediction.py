from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.member import Gives
from fi_stream.models.prediction import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL = slice(None)


def passed(outputs: NDArray[Any], gives: Gives) -> NDArray[np.float64]:
    answer = check(outputs, gives).part(ALL)
    assert not isinstance(answer, Refusal)
    return answer


def rows_and_classes(dtype: str) -> st.SearchStrategy[NDArray[Any]]:
    shapes = st.tuples(st.integers(1, 4), st.integers(2, 9))
    return hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), allow_nan=True))


@given(st.sampled_from(["f2", "f4", "f8"]).flatmap(rows_and_classes), st.sampled_from(Gives))
def test_what_passes_is_on_the_simplex_and_what_is_not_finite_never_passes(
    outputs: NDArray[Any], gives: Gives
) -> None:
    answer = check(outputs, gives).part(ALL)
    if not np.isfinite(outputs).all():
        assert isinstance(answer, Refusal)
        assert answer.reason is Reason.NOT_FINITE
    elif not isinstance(answer, Refusal):
        assert answer.dtype == np.float64
        assert (answer >= 0).all()
        assert np.abs(answer.sum(axis=1) - 1).max() < 1e-12
    else:
        assert gives is Gives.PROBABILITIES


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shift", [90.0, -90.0, 1000.0])
def test_large_logits_are_as_good_as_small_ones(dtype: type, shift: float) -> None:
    small = np.array([[0.0, 1.0, 2.0], [8.0, 0.0, 8.0]])
    expected = np.exp(small) / np.exp(small).sum(axis=1, keepdims=True)
    assert passed((small + shift).astype(dtype), Gives.LOGITS) == pytest.approx(expected)


@pytest.mark.parametrize("spread", [90.0, 1e4, 1e308])
def test_logits_far_apart_are_a_sure_answer(spread: float) -> None:
    answer = passed(np.array([[spread, -spread]]), Gives.LOGITS)
    assert answer == pytest.approx(np.array([[1.0, 0.0]]))


@pytest.mark.parametrize(
    "row",
    [
        [0.6, 0.6],
        [0.4, 0.4],
        [1.1, -0.1],
        [1.0, -0.001],
        [0.0, 0.0],
        [1e308, 1e308],
        [1.002, 0.0],
    ],
)
def test_what_is_off_the_simplex_is_no_prediction(row: list[float]) -> None:
    answer = check(np.array([row]), Gives.PROBABILITIES).part(ALL)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.NOT_A_PREDICTION


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_rounded_to_few_bits_pass(dtype: type) -> None:
    exact = np.random.default_rng(7).dirichlet(np.full(200, 0.2), size=50)
    answer = passed(exact.astype(dtype), Gives.PROBABILITIES)
    assert answer == pytest.approx(exact, abs=1e-3)


def test_a_speck_below_zero_is_rounding_and_becomes_zero() -> None:
    answer = passed(np.array([[1.0, -1e-8]]), Gives.PROBABILITIES)
    assert np.array_equal(answer, [[1.0, 0.0]])


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_a_one_hot_of_whole_numbers_is_a_prediction(dtype: type) -> None:
    answer = passed(np.array([[0, 1]], dtype=dtype), Gives.PROBABILITIES)
    assert np.array_equal(answer, [[0.0, 1.0]])
