"""A response becomes a prediction only in the federation's form, shape and datatype."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from members import abstain_payload, answer_payload, cast, reply

from fi_stream.aggregation.answers import Reading, open_response, prediction_of
from fi_stream.aggregation.competence import DENSITY_CAP
from fi_stream.events.codec import pack
from fi_stream.events.payloads import Abstain, Answer, Noise, frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_tensor
from fi_stream.federation.policy import Form
from fi_stream.sealing.gate import Verified

if TYPE_CHECKING:
    from fi_stream.aggregation.facts import Given

GOOD = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])


def tensor(array: np.ndarray, name: str = "probabilities") -> Tensor:
    made = to_tensor(name, array)
    assert isinstance(made, Tensor), made
    return made


def answer(*tensors: Tensor, form: str = "probabilities", scale: int | None = None) -> Answer:
    return Answer(form=form, outputs=tensors, scale=scale)


def read(given: Answer, form: Form = Form.PROBABILITIES) -> np.ndarray | Refusal:
    return prediction_of(given, form, 2, 3)


def raw(values: list[float], datatype: Datatype = Datatype.FP64) -> Tensor:
    data = np.array(values, dtype=datatype.numpy).tobytes()
    return Tensor(name="probabilities", datatype=datatype, shape=(2, 3), data=data)


def test_probabilities_are_read_as_they_are() -> None:
    np.testing.assert_array_equal(read(answer(tensor(GOOD))), GOOD)


def test_labels_become_one_hot() -> None:
    given = answer(tensor(np.array([2, 0]), "label"), form="label")
    np.testing.assert_array_equal(read(given, Form.LABEL), [[0, 0, 1], [1, 0, 0]])


def test_labels_with_a_level_become_votes_of_that_weight() -> None:
    given = answer(tensor(np.array([2 * 4 + 3, 0 * 4 + 1]), "label"), form="label", scale=4)
    np.testing.assert_array_equal(read(given, Form.LABEL), [[0, 0, 1], [0.5, 0, 0]])


@pytest.mark.parametrize("category", [-1, 12])
def test_a_category_that_is_no_label_and_level_is_refused(category: int) -> None:
    given = answer(tensor(np.array([0, category]), "label"), form="label", scale=4)
    refusal = read(given, Form.LABEL)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.NOT_A_PREDICTION


def test_noised_integers_are_divided_by_their_scale_and_need_not_be_probabilities() -> None:
    grid = np.array([[-512, 1024, 1536], [0, 0, 0]])
    given = answer(tensor(grid), scale=1024)
    np.testing.assert_array_equal(read(given), [[-0.5, 1.0, 1.5], [0, 0, 0]])


@given(arrays(np.int64, (2, 3)), st.integers(1, 2**32))
@settings(deadline=None)
def test_noised_integers_of_any_size_give_finite_predictions(grid: np.ndarray, scale: int) -> None:
    prediction = read(answer(tensor(grid), scale=scale))
    assert not isinstance(prediction, Refusal)
    assert np.isfinite(prediction).all()


NOT_GOOD = {
    "another form": (answer(tensor(GOOD), form="logits"), Reason.WRONG_FORM),
    "a label": (answer(tensor(np.array([0, 1]), "label"), form="label"), Reason.WRONG_FORM),
    "another name": (answer(tensor(GOOD, "logits")), Reason.WRONG_FORM),
    "two tensors": (answer(tensor(GOOD), tensor(GOOD, "more")), Reason.WRONG_FORM),
    "float32": (answer(tensor(GOOD.astype(np.float32))), Reason.WRONG_DATATYPE),
    "integers without a scale": (answer(tensor(GOOD.astype(np.int64))), Reason.WRONG_DATATYPE),
    "floats with a scale": (answer(tensor(GOOD), scale=2), Reason.WRONG_DATATYPE),
    "int32 with a scale": (answer(tensor(GOOD.astype(np.int32)), scale=2), Reason.WRONG_DATATYPE),
    "a row less": (answer(tensor(GOOD[:1])), Reason.WRONG_SHAPE),
    "a row more": (answer(tensor(np.vstack([GOOD, GOOD[:1]]))), Reason.WRONG_SHAPE),
    "a class less": (answer(tensor(np.array([[1.0, 0.0]] * 2))), Reason.WRONG_SHAPE),
    "squeezed": (answer(tensor(GOOD.ravel())), Reason.WRONG_SHAPE),
    "transposed": (answer(tensor(GOOD.T)), Reason.WRONG_SHAPE),
    "another axis": (answer(tensor(GOOD[None])), Reason.WRONG_SHAPE),
    "noised, of another shape": (
        answer(tensor(np.zeros((3, 2), int)), scale=2),
        Reason.WRONG_SHAPE,
    ),
    "no rows": (answer(tensor(np.zeros((0, 3)))), Reason.WRONG_SHAPE),
    "a sum of 1.2": (answer(raw([0.6, 0.6, 0.0, 1, 0, 0])), Reason.NOT_A_PREDICTION),
    "a sum of 0": (answer(raw([0.0] * 6)), Reason.NOT_A_PREDICTION),
    "a negative entry": (answer(raw([0.9, 0.2, -0.1, 1, 0, 0])), Reason.NOT_A_PREDICTION),
    "sums that cancel": (answer(raw([1.1, 0, 0, 0.9, 0, 0])), Reason.NOT_A_PREDICTION),
    "NaN": (answer(raw([np.nan, 0.5, 0.5, 1, 0, 0])), Reason.NOT_FINITE),
    "infinity": (answer(raw([np.inf, 0, 0, 1, 0, 0])), Reason.NOT_FINITE),
    "huge": (answer(raw([1e308, 1e308, 1e308, 1, 0, 0])), Reason.NOT_A_PREDICTION),
}


@pytest.mark.parametrize("what", NOT_GOOD)
def test_what_is_no_prediction_is_refused_with_its_reason(what: str) -> None:
    given, expected = NOT_GOOD[what]
    refusal = read(given)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is expected


NO_LABELS = {
    "below 0": (np.array([-1, 0]), Reason.NOT_A_PREDICTION),
    "beyond the classes": (np.array([0, 3]), Reason.NOT_A_PREDICTION),
    "int32": (np.array([0, 1], np.int32), Reason.WRONG_DATATYPE),
    "floats": (np.array([0.0, 1.0]), Reason.WRONG_DATATYPE),
    "too few": (np.array([0]), Reason.WRONG_SHAPE),
    "a column": (np.array([[0], [1]]), Reason.WRONG_SHAPE),
}


@pytest.mark.parametrize("what", NO_LABELS)
def test_what_is_no_label_is_refused_with_its_reason(what: str) -> None:
    array, expected = NO_LABELS[what]
    refusal = read(answer(tensor(array, "label"), form="label"), Form.LABEL)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is expected


def response(payload: bytes, kind: str) -> Verified:
    members = cast()
    value = members.epoch("p1").seal(members.ask(rows=2), reply(kind), payload).value
    heard = members.hear("response", value)
    assert isinstance(heard, Verified)
    return heard


def test_an_opened_answer_carries_its_prediction_model_and_noise() -> None:
    noise = Noise(mechanism="randomised_response", epsilon=1.0, delta=0.0, total=2.0)
    said = Answer(form="probabilities", outputs=(tensor(GOOD),), noise=noise)
    event = response(answer_payload(said), "answer")
    given, refusal = open_response(event, reply("answer"), Reading(Form.PROBABILITIES, 3))
    assert refusal is None
    assert given.prediction is not None
    np.testing.assert_array_equal(given.prediction, GOOD)
    assert (given.noise, given.model, given.reason) == (noise, "m1", None)
    assert given.answered.member == "p1"
    assert given.answered.at == event.record.at


def test_an_opened_abstain_carries_its_reason() -> None:
    payload = frame(Abstain(reason=Reason.OVER_BUDGET.code), 600)
    event = response(payload, "abstain")
    given, refusal = open_response(event, reply("abstain"), Reading(Form.PROBABILITIES, 3))
    assert refusal is None
    assert given.prediction is None
    assert given.reason is Reason.OVER_BUDGET


def test_an_abstain_for_a_reason_of_a_later_version_is_still_an_abstain() -> None:
    event = response(frame(Abstain(reason=30_000), 600), "abstain")
    given, refusal = open_response(event, reply("abstain"), Reading(Form.PROBABILITIES, 3))
    assert refusal is None
    assert (given.prediction, given.reason) == (None, None)


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("answer", abstain_payload(), Reason.MALFORMED),
        ("abstain", answer_payload(answer(tensor(GOOD))), Reason.MALFORMED),
        ("answer", b"", Reason.MALFORMED),
        ("answer", bytes(64), Reason.MALFORMED),
        ("answer", answer_payload(answer(tensor(GOOD[:1]))), Reason.WRONG_SHAPE),
        ("abstain", (9).to_bytes(4, "big") + pack({"reason": True}), Reason.MALFORMED),
    ],
)
def test_a_response_that_cannot_be_used_stands_as_an_abstain_with_its_reason(
    kind: str, payload: bytes, expected: Reason
) -> None:
    """It accounts for its member: nobody need wait for another one."""
    given, refusal = open_response(
        response(payload, kind), reply(kind), Reading(Form.PROBABILITIES, 3)
    )
    assert refusal is not None
    assert refusal.reason is expected
    assert given.reason is expected
    assert given.prediction is None


WEIGHTS = np.array([0.0, 54.0])


def weighed(rule: str, *tensors: Tensor) -> tuple[Given, Refusal | None]:
    members = cast()
    payload = answer_payload(answer(tensor(GOOD), *tensors))
    value = members.epoch("p1").seal(members.ask(rows=2, rule=rule), reply("answer"), payload).value
    heard = members.hear("response", value)
    assert isinstance(heard, Verified)
    return open_response(heard, reply("answer"), Reading(Form.PROBABILITIES, 3))


def test_a_weight_is_read_beside_the_prediction_where_the_rule_wants_one() -> None:
    given, refusal = weighed("competence_density", tensor(WEIGHTS, "weight"))
    assert refusal is None
    np.testing.assert_array_equal(given.prediction, GOOD)
    np.testing.assert_array_equal(given.own, WEIGHTS)
    assert given.answered.rule == "competence_density"


def test_a_weight_may_be_the_cap_as_another_machine_rounds_it() -> None:
    above = np.nextafter(np.full(2, DENSITY_CAP), np.inf)
    given, refusal = weighed("competence_density", tensor(above, "weight"))
    assert refusal is None
    assert given.own.tolist() == [DENSITY_CAP] * 2


@pytest.mark.parametrize(
    ("rule", "tensors", "reason"),
    [
        ("competence_density", (), Reason.WRONG_FORM),
        ("soft", (tensor(WEIGHTS, "weight"),), Reason.WRONG_FORM),
        ("competence_density", (tensor(WEIGHTS + 1, "weight"),), Reason.NOT_A_PREDICTION),
        ("competence_density", (tensor(-WEIGHTS, "weight"),), Reason.NOT_A_PREDICTION),
        ("competence_energy", (tensor(WEIGHTS / 7, "weight"),), Reason.NOT_A_PREDICTION),
        ("tta_l2", (tensor(WEIGHTS / 53, "weight"),), Reason.NOT_A_PREDICTION),
        ("tta_l2", (tensor(WEIGHTS[:, None], "weight"),), Reason.WRONG_SHAPE),
        ("tta_l2", (tensor(np.array([0, 1]), "weight"),), Reason.WRONG_DATATYPE),
    ],
)
def test_a_weight_that_is_none_is_refused_with_its_reason(
    rule: str, tensors: tuple[Tensor, ...], reason: Reason
) -> None:
    given, refusal = weighed(rule, *tensors)
    assert refusal is not None
    assert (refusal.reason, given.reason, given.prediction) == (reason, reason, None)
