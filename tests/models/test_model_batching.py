from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.member import Gives
from fi_stream.models.batching import predict_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fi_stream.models.port import Inputs

CLASSES = 4


class Own:
    """A model made of a function of `x`, [rows, 1]; counts its forward passes."""

    version = "test"

    def __init__(self, answer: Callable[[NDArray[Any]], Any]) -> None:
        self._answer = answer
        self.passes = 0

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        self.passes += 1
        answer: NDArray[Any] = self._answer(inputs["x"])
        return answer


def one_hot(x: NDArray[Any]) -> NDArray[np.float64]:
    """Each row names itself: its answer is one-hot at its own number."""
    named: NDArray[np.float64] = np.eye(CLASSES)[x[:, 0].astype(int) % CLASSES]
    return named


def query(*numbers: float) -> Inputs:
    return {"x": np.array(numbers, dtype=np.float32).reshape(-1, 1)}


def ask(
    model: Own, queries: Sequence[Inputs], gives: Gives = Gives.PROBABILITIES
) -> list[NDArray[np.float64] | Refusal]:
    found = predict_each(model, queries, CLASSES, gives)
    return [one if isinstance(one, Refusal) else one.probabilities for one in found]


def reasons(answers: Sequence[NDArray[np.float64] | Refusal]) -> list[Reason | None]:
    return [answer.reason if isinstance(answer, Refusal) else None for answer in answers]


def best(answer: NDArray[np.float64] | Refusal) -> list[int]:
    assert not isinstance(answer, Refusal)
    return [int(label) for label in answer.argmax(axis=1)]


THREE = [query(0), query(1, 2), query(3, 0, 1)]


@given(
    st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=5), min_size=1, max_size=8)
)
def test_each_query_gets_the_answers_to_its_own_rows(numbers: list[list[int]]) -> None:
    model = Own(one_hot)
    answers = ask(model, [query(*own) for own in numbers])
    assert model.passes == 1
    for own, answer in zip(numbers, answers, strict=True):
        assert best(answer) == own


WRONG_SHAPES: dict[str, Callable[[NDArray[Any]], Any]] = {
    "5 of 6 rows": lambda x: one_hot(x)[:5],
    "a row too many": lambda x: one_hot(np.vstack([x, x[:1]])),
    "one row for all": lambda x: one_hot(x)[:1],
    "a squeezed vector": lambda x: one_hot(x)[:, 0],
    "one vector for all": lambda x: one_hot(x)[0],
    "classes first": lambda x: one_hot(x).T,
    "an axis more": lambda x: one_hot(x)[None],
    "a class too few": lambda x: one_hot(x)[:, 1:],
    "a number": lambda _: 1.0,
    "nothing": lambda _: np.empty((0, CLASSES)),
}


@pytest.mark.parametrize("answer", WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys())
def test_another_number_of_rows_answers_nobody(answer: Callable[[NDArray[Any]], Any]) -> None:
    assert reasons(ask(Own(answer), THREE)) == [Reason.WRONG_SHAPE] * 3


def test_a_row_squeezed_away_is_refused_for_one_query_of_one_row() -> None:
    model = Own(lambda x: np.squeeze(one_hot(x)))
    assert reasons(ask(model, [query(2)])) == [Reason.WRONG_SHAPE]


def raises_on_three(x: NDArray[Any]) -> NDArray[np.float64]:
    if (x == 3).any():
        raise ValueError(f"secret {x}")
    return one_hot(x)


def test_a_query_that_breaks_the_model_fails_alone() -> None:
    answers = ask(Own(raises_on_three), THREE)
    assert reasons(answers) == [None, None, Reason.MODEL_FAILED]
    assert best(answers[1]) == [1, 2]


def test_a_refusal_does_not_quote_what_the_model_said() -> None:
    (answer,) = ask(Own(raises_on_three), [query(3)])
    assert isinstance(answer, Refusal)
    assert "secret" not in answer.detail
    assert "ValueError" in answer.detail


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("gives", list(Gives))
def test_a_row_that_is_not_finite_refuses_its_own_query(bad: float, gives: Gives) -> None:
    def answer(x: NDArray[Any]) -> NDArray[np.float64]:
        outputs = one_hot(x)
        outputs[x[:, 0] == 2, 1] = bad
        return outputs

    model = Own(answer)
    assert reasons(ask(model, THREE, gives)) == [None, Reason.NOT_FINITE, None]
    assert model.passes == 1


def test_a_row_off_the_simplex_refuses_its_own_query() -> None:
    model = Own(lambda x: one_hot(x) * np.where(x == 3, 1.2, 1.0))
    assert reasons(ask(model, THREE)) == [None, None, Reason.NOT_A_PREDICTION]


@pytest.mark.parametrize(
    "outputs", [np.full((1, CLASSES), "cat"), np.full((1, CLASSES), 0.25 + 0j), [[None] * CLASSES]]
)
def test_what_holds_no_numbers_is_no_prediction(outputs: Any) -> None:
    assert reasons(ask(Own(lambda _: outputs), [query(0)])) == [Reason.NOT_A_PREDICTION]


def test_a_model_may_answer_in_lists() -> None:
    answers = ask(Own(lambda x: one_hot(x).tolist()), THREE)
    assert reasons(answers) == [None] * 3


def test_answers_do_not_change_when_the_model_reuses_its_memory() -> None:
    memory = np.zeros((1, CLASSES))

    def answer(x: NDArray[Any]) -> NDArray[np.float64]:
        memory[:] = one_hot(x)
        return memory

    model = Own(answer)
    first, second = ask(model, [query(1)])[0], ask(model, [query(2)])[0]
    assert (best(first), best(second)) == ([1], [2])


def test_a_model_may_write_to_inputs_that_came_read_only() -> None:
    def answer(x: NDArray[Any]) -> NDArray[np.float64]:
        x += 1
        return one_hot(x)

    asked = query(1)
    asked["x"].flags.writeable = False
    (got,) = ask(Own(answer), [asked])
    assert best(got) == [2]
    assert asked["x"][0, 0] == 1


def test_no_queries_need_no_forward_pass() -> None:
    model = Own(one_hot)
    assert ask(model, []) == []
    assert model.passes == 0
