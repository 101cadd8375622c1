"""What a participant's model makes of a row, with features of its own or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fi_stream.errors import ModelError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype
from fi_stream.federation.member import Gives
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.models.batching import Predicted
from fi_stream.roles.features import MOST_FEATURES, RowFeatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.models.port import Inputs

SAID = Predicted(np.array([[0.9, 0.1], [1.0, 0.0]]), np.array([[3.0, -1e9], [2.0, 0.5]]))
ASKED: Inputs = {"x": np.ones((2, 4), dtype=np.float32)}


def task(classes: int = 2) -> Task:
    return Task(
        kind="multiclass",
        classes=tuple(f"c{number}" for number in range(classes)),
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,)),),
    )


class Plain:
    version = "m"

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        return np.zeros((len(inputs["x"]), 2))


class Counting(Plain):
    """Has features; fails on rows of 7."""

    def __init__(self) -> None:
        self.passes: list[int] = []

    def features(self, inputs: Inputs) -> NDArray[Any]:
        assert not (inputs["x"] == 7).any()
        self.passes.append(len(inputs["x"]))
        return inputs["x"][:, :3]


def test_without_features_of_its_own_a_model_s_logits_are_some() -> None:
    [found] = RowFeatures(Plain(), Gives.LOGITS, task()).of([ASKED], [SAID])
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[3.0, -1e6], [2.0, 0.5]]


def test_or_the_logarithms_of_its_probabilities_and_none_is_infinite() -> None:
    [found] = RowFeatures(Plain(), Gives.PROBABILITIES, task()).of([ASKED], [SAID])
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, np.log([[0.9, 0.1], [1.0, 1e-6]]))


def test_features_of_all_queries_are_one_pass_and_a_bad_query_fails_alone() -> None:
    model = Counting()
    features = RowFeatures(model, Gives.LOGITS, task())
    model.passes.clear()
    assert len(features.of([ASKED] * 3, [SAID] * 3)) == 3
    assert model.passes == [6]
    bad: Inputs = {"x": np.full((1, 4), 7, dtype=np.float32)}
    first, second = features.of([bad, ASKED], [SAID, SAID])
    assert isinstance(first, Refusal)
    assert first.reason is Reason.MODEL_FAILED
    assert isinstance(second, np.ndarray)
    assert second.shape == (2, 3)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda x: x[:1, :3], Reason.WRONG_SHAPE),
        (lambda x: x[:, :2], Reason.WRONG_SHAPE),
        (lambda x: x[:, 0], Reason.WRONG_SHAPE),
        (lambda x: x[:, :3] * np.inf, Reason.NOT_FINITE),
    ],
)
def test_features_that_are_none_fail_their_query(made: Any, reason: Reason) -> None:
    model = Counting()
    features = RowFeatures(model, Gives.LOGITS, task())
    features._own = lambda inputs: made(inputs["x"])
    [found] = features.of([ASKED], [SAID])
    assert isinstance(found, Refusal)
    assert found.reason is reason


def test_a_task_of_many_classes_needs_features_of_its_own() -> None:
    with pytest.raises(ModelError, match="give the model a `features"):
        RowFeatures(Plain(), Gives.LOGITS, task(MOST_FEATURES + 1))
    assert RowFeatures(Counting(), Gives.LOGITS, task(MOST_FEATURES + 1)) is not None
