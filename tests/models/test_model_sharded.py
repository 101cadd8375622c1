from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fi_stream.events.refusals import Refusal
from fi_stream.federation.member import Gives
from fi_stream.models.batching import predict_each
from fi_stream.models.sharded import Sharded

if TYPE_CHECKING:
    from fi_stream.models.port import Inputs

CLASSES = 3


class Several:
    """Models that say what they are told to, [models, rows, classes] for the rows of `x`."""

    version = "1"

    def __init__(self, said: Any) -> None:
        self.said = said

    def predict(self, inputs: Inputs) -> Any:
        said = self.said(len(inputs["x"])) if callable(self.said) else self.said
        return np.asarray(said)


def votes_for(*labels: int) -> Any:
    """One model a label, the same for each row."""

    def said(rows: int) -> Any:
        return np.stack([np.tile(np.eye(CLASSES)[label], (rows, 1)) for label in labels])

    return said


def sharded(said: Any, gives: Gives = Gives.PROBABILITIES) -> Sharded:
    return Sharded(Several(said), gives, CLASSES)


def test_each_model_has_one_vote() -> None:
    model = sharded(votes_for(0, 2, 2, 2))
    assert model.predict({"x": np.zeros(2)}).tolist() == [[0.25, 0, 0.75]] * 2
    assert model.models == 4


def test_one_model_changes_one_vote_however_sure_it_is() -> None:
    sure, unsure = np.array([[9.0, 0, 0]]), np.array([[0.1, 0, 0]])
    other = np.array([[0.0, 5.0, 0]])
    one = sharded(np.stack([sure, other, other]), Gives.LOGITS)
    two = sharded(np.stack([unsure, other, other]), Gives.LOGITS)
    rows = {"x": np.zeros(1)}
    assert np.array_equal(one.predict(rows), two.predict(rows))


def test_the_rows_of_each_query_are_its_own() -> None:
    def said(rows: int) -> Any:
        labels = np.arange(rows) % CLASSES
        return np.stack([np.eye(CLASSES)[labels]] * 5)

    queries = [{"x": np.zeros(2)}, {"x": np.zeros(3)}]
    first, second = predict_each(sharded(said), queries, CLASSES, Gives.PROBABILITIES)
    assert not isinstance(first, Refusal)
    assert not isinstance(second, Refusal)
    assert first.argmax(axis=1).tolist() == [0, 1]
    assert second.argmax(axis=1).tolist() == [2, 0, 1]


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(2, 9), st.integers(1, 4), st.just(CLASSES)),
        elements=st.floats(allow_nan=True, allow_infinity=True),
    ),
    st.data(),
    st.sampled_from(Gives),
)
def test_whatever_one_model_says_it_moves_no_more_than_its_vote(
    said: Any, data: st.DataObject, gives: Gives
) -> None:
    models, rows = len(said), {"x": np.zeros(said.shape[1])}
    before = sharded(said, gives).predict(rows) * models
    other = said.copy()
    anything = st.floats(allow_nan=True, allow_infinity=True)
    other[data.draw(st.integers(0, models - 1))] = data.draw(
        arrays(np.float64, said.shape[1:], elements=anything)
    )
    after = sharded(other, gives).predict(rows) * models
    assert np.abs(after - before).max() <= 1 + 1e-9
    assert np.allclose(after.sum(axis=1), models)


@pytest.mark.parametrize(
    "said",
    [
        np.zeros((1, CLASSES)),
        np.zeros((2, 1, CLASSES + 1)),
        np.zeros((1, 1, CLASSES)),
        [[["a"] * CLASSES]] * 2,
    ],
)
def test_what_is_no_answer_of_several_models_says_what_is_wanted(said: Any) -> None:
    with pytest.raises(ValueError, match=r"\[models, rows, 3\]|at least 2"):
        sharded(said).predict({"x": np.zeros(1)})


def test_as_many_models_answer_as_before() -> None:
    model = sharded(votes_for(0, 1, 2))
    model.predict({"x": np.zeros(1)})
    model._model = Several(votes_for(0, 1))
    with pytest.raises(ValueError, match="2 models answered, and 3 are wanted"):
        model.predict({"x": np.zeros(1)})
