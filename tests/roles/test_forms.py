"""The forms in which a participant asks its model a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype
from fi_stream.federation.member import Forms, Gives, ModelSection
from fi_stream.federation.policy import Policy
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.models.batching import predict_each
from fi_stream.roles.forms import AskedForms, forms_wanted
from fi_stream.roles.own_weights import OwnWeights, Put, Weighed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.models.port import Inputs

IMAGES = Task(
    kind="multiclass",
    classes=("left", "right"),
    inputs=(TensorSpec(name="image", datatype=Datatype.FP32, shape=(3, 3, 2)),),
)
SECTION = ModelSection(factory="a:b", gives=Gives.PROBABILITIES, forms=Forms.ROTATIONS)


class Corner:
    """Says how bright the first corner is; counts its forward passes."""

    version = "m"

    def __init__(self) -> None:
        self.passes: list[int] = []

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        bright = inputs["image"][:, 0, 0, 0]
        self.passes.append(len(bright))
        return np.stack([bright, 1 - bright], axis=1)


def images(*corners: tuple[float, float, float, float]) -> Inputs:
    """Clockwise from the first corner."""
    made = np.zeros((len(corners), 3, 3, 2), dtype=np.float32)
    for image, (a, b, c, d) in zip(made, corners, strict=True):
        image[0, 0], image[0, 2], image[2, 2], image[2, 0] = a, b, c, d
    return {"image": made}


class Federation:
    """As much of one as is read."""

    task = IMAGES
    policy = Policy(rules=("tta_mean", "tta_l2", "soft"))


def test_square_images_are_turned_and_all_forms_go_through_one_forward_pass() -> None:
    model = Corner()
    weights = OwnWeights(model, SECTION, Gives.PROBABILITIES, Federation)  # type: ignore[arg-type]
    asked = images((1, 0.5, 0, 0.5), (0.25, 0.25, 0.25, 0.25))
    plain, mean, steady = weights.answer_each(
        [Put("alice", rule, asked) for rule in ("soft", "tta_mean", "tta_l2")]
    )
    assert model.passes == [2 + 8 + 8]
    assert [weights.passed(rule, 2) for rule in ("soft", "tta_mean")] == [2, 8]
    assert isinstance(plain, Weighed)
    assert isinstance(mean, Weighed)
    assert isinstance(steady, Weighed)
    assert (plain.own, mean.own) == (None, None)
    np.testing.assert_allclose(plain.prediction[:, 0], [1, 0.25])
    np.testing.assert_allclose(mean.prediction[:, 0], [0.5, 0.25])
    np.testing.assert_allclose(steady.prediction, mean.prediction)
    assert steady.own is not None
    distance = np.sqrt(2) * (0.5 + 0 + 0.5 + 0) / 4
    np.testing.assert_allclose(steady.own, [np.exp(-distance), 1.0])


def test_a_form_that_the_model_fails_on_fails_its_query_alone() -> None:
    class Fails(Corner):
        def predict(self, inputs: Inputs) -> NDArray[Any]:
            assert (inputs["image"][:, 0, 0, 0] <= 1).all()
            return super().predict(inputs)

    weights = OwnWeights(Fails(), SECTION, Gives.PROBABILITIES, Federation)  # type: ignore[arg-type]
    bad, good = images((0, 0, 7, 0)), images((1, 1, 1, 1))
    first, second, third = weights.answer_each(
        [Put("alice", rule, one) for rule, one in (("tta_l2", bad), ("soft", bad), ("soft", good))]
    )
    assert isinstance(first, Refusal)
    assert first.reason is Reason.MODEL_FAILED
    assert isinstance(second, Weighed)  # as it is, its corner is dark
    assert isinstance(third, Weighed)


def refused(made: Any) -> Reason:
    found = AskedForms(lambda _: made() if callable(made) else made, 2).of(images((1, 0, 0, 0)))
    assert isinstance(found, Refusal)
    return found.reason


def test_forms_that_are_none_are_refused() -> None:
    one = images((1, 0, 0, 0))
    longer = {"image": np.repeat(one["image"], 2, axis=0)}
    assert refused([one]) is Reason.WRONG_SHAPE
    assert refused([one, longer]) is Reason.WRONG_SHAPE
    assert refused([one, {"image": one["image"].astype(np.float64)}]) is Reason.WRONG_SHAPE
    assert refused([one, {}]) is Reason.WRONG_SHAPE
    assert refused([one, one["image"]]) is Reason.WRONG_SHAPE
    assert refused(None) is Reason.MODEL_FAILED
    assert refused(lambda: 1 / 0) is Reason.MODEL_FAILED


def test_forms_may_write_to_what_they_are_given() -> None:
    def darker(inputs: Inputs) -> list[Inputs]:
        inputs["image"][:] = 0
        return [inputs]

    asked = images((1, 0, 0, 0))
    asked["image"].flags.writeable = False
    [form] = AskedForms(darker, 1).of(asked)
    assert not np.any(form["image"])
    assert asked["image"].any()


def test_the_rotations_of_a_model_s_input_keep_its_datatype() -> None:
    found = forms_wanted(Corner(), SECTION, IMAGES)
    assert found is not None
    forms = found.of(images((1, 0.5, 0, 0.5)))
    assert not isinstance(forms, Refusal)
    assert {form["image"].dtype for form in forms} == {np.dtype(np.float32)}
    assert all(
        not isinstance(one, Refusal)
        for one in predict_each(Corner(), forms, 2, Gives.PROBABILITIES)
    )
