from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

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
    assert first.probabilities.argmax(axis=1).tolist() == [0, 1]
    assert second.probabilities.argmax(axis=1).tolist() == [2, 0, 1]


@pytest.mark.parametrize("fault", [np.nan, np.inf, -1.0, 7.0])
def test_a_model_that_cannot_answer_a_row_changes_one_vote_of_it_and_nothing_else(
    fault: float,
) -> None:
    said = votes_for(0, 0, 0, 0, 0)(2)
    whole = sharded(lambda _: said).predict({"x": np.zeros(2)})
    broken = said.copy()
    broken[1, 1] = fault
    shares = sharded(lambda _: broken).predict({"x": np.zeros(2)})
    assert np.array_equal(shares[0], whole[0])
    assert np.abs(shares[1] - whole[1]).sum() == pytest.approx(2 / 5)  # from one class to another
    assert shares[1].sum() == pytest.approx(1)


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
