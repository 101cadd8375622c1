"""A participant's response opened and turned into the prediction that a rule reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.caps import confidence_cap
from fi_stream.aggregation.evaluate import one_hot
from fi_stream.aggregation.evidence import OWN_CAPS
from fi_stream.aggregation.facts import Answered, Given, Half
from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE
from fi_stream.events.payloads import WEIGHT, Abstain, Answer
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import HALF
from fi_stream.events.tensors import Datatype, Tensor, to_array
from fi_stream.federation.policy import Form, Protection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.events.header import Reply
    from fi_stream.sealing.gate import Verified

_ROUNDING = 2.0**-40
"""By how much, as a part of itself, a participant's exponential may be larger than ours."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a federation's answers are read.

    `noised` is whether they may be noised integers, and `most` the largest probability that is
    believed: a surer prediction is mixed with a guess (`caps.confidence_cap`).
    """

    form: Form
    classes: int
    noised: bool = True
    most: float | None = None


def answered_by(event: Verified, reply: Reply) -> Answered:
    """What is known of a response before it is opened; it names a protection that there is."""
    header, record = event.header, event.record
    protection = Protection(header.ask.protection)
    ask = header.ask
    return Answered(
        header.sender, reply.digest, record.at, record.offset, ask.rows, protection, ask.rule
    )


def unread(event: Verified, reply: Reply, most_bytes: int) -> tuple[Given, Refusal | None]:
    """A response that only the client may read, to be relayed to it as it came.

    One larger than a true one can be, `most_bytes`, would make the result too large: it stands as
    an abstain, with the refusal.
    """
    answered, size = answered_by(event, reply), len(event.record.value)
    if size > most_bytes:
        refusal = Refusal(Reason.TOO_LARGE, f"{size} bytes, and a response has {most_bytes}")
        return Given(answered, reply.model, None, refusal.reason), refusal
    kept = event.record.value
    return Given(answered, reply.model, None, relayed=kept, unread=reply.kind == "answer"), None


def open_response(event: Verified, reply: Reply, reading: Reading) -> tuple[Given, Refusal | None]:
    """Open a response.

    Args:
        event: the response, verified.
        reply: what its header says of it.
        reading: of the federation.

    Returns:
        What it says; one that cannot be used stands as an abstain, with the refusal that says why.
    """
    given, refusal = _abstained(event, reply)
    if given is not None:
        return given, refusal
    answered = answered_by(event, reply)
    answer = event.open(Answer)
    if isinstance(answer, Refusal):
        return Given(answered, reply.model, None, answer.reason), answer
    ask, own = event.header.ask, None
    if ask.rule in OWN_CAPS:
        apart = _weight_apart(answer, ask.rule, ask.rows)
        if isinstance(apart, Refusal):
            return Given(answered, reply.model, None, apart.reason), apart
        answer, own = apart
    prediction = prediction_of(
        answer, reading.form, ask.rows, reading.classes, noised=reading.noised
    )
    if isinstance(prediction, Refusal):
        return Given(answered, reply.model, None, prediction.reason), prediction
    if reading.most is not None:
        prediction = confidence_cap(prediction, reading.most)
    return Given(answered, reply.model, prediction, noise=answer.noise, own=own), None


def open_half(event: Verified, reply: Reply, classes: int) -> tuple[Given, Refusal | None]:
    """Open the leader's share of an answer under `secagg`.

    Args:
        event: the response, verified.
        reply: what its header says of it.
        classes: of the task.

    Returns:
        As `open_response`: the share in place of a prediction.
    """
    given, refusal = _abstained(event, reply)
    if given is not None:
        return given, refusal
    answered = answered_by(event, reply)
    answer = event.open(Answer)
    if isinstance(answer, Refusal):
        return Given(answered, reply.model, None, answer.reason), answer
    half = _half_of(answer, reply, event.header.ask.rows, classes + 1)
    if isinstance(half, Refusal):
        return Given(answered, reply.model, None, half.reason), half
    return Given(answered, reply.model, None, noise=answer.noise, half=half), None


def prediction_of(
    answer: Answer, form: Form, rows: int, classes: int, *, noised: bool = True
) -> NDArray[np.float64] | Refusal:
    """Read an answer in the federation's form.

    Returns:
        [rows, classes] float64: probabilities, one-hot labels times their weights, or noised
        probabilities, which may be negative and need not add up to 1. A refusal when the answer is
        none of these.
    """
    if answer.form != form:
        return Refusal(Reason.WRONG_FORM, f"{answer.form} instead of {form}")
    tensor = answer.outputs[0]
    if len(answer.outputs) != 1 or tensor.name != form:
        return Refusal(Reason.WRONG_FORM, f"one tensor named {form} is wanted")
    array = to_array(tensor)
    if isinstance(array, Refusal):
        return array
    if form is Form.LABEL:
        return _labels(tensor, array, rows, classes, answer.scale or 1)
    if array.shape != (rows, classes):
        return Refusal(Reason.WRONG_SHAPE, f"{array.shape} instead of {(rows, classes)}")
    if answer.scale is not None and not noised:
        return Refusal(Reason.WRONG_FORM, "noised integers, which a rule of the policy cannot read")
    if answer.scale is not None:
        return _noised(tensor, array, answer.scale)
    return _probabilities(tensor, array)


def _weight_apart(
    answer: Answer, rule: str, rows: int
) -> tuple[Answer, NDArray[np.float64]] | Refusal:
    """An answer without its second tensor, and what that says: the weight of each row, [rows]."""
    if len(answer.outputs) != 2 or answer.outputs[1].name != WEIGHT:
        return Refusal(Reason.WRONG_FORM, f"rule {rule} wants a second tensor named {WEIGHT}")
    tensor = answer.outputs[1]
    array = to_array(tensor)
    if isinstance(array, Refusal):
        return array
    if tensor.datatype is not Datatype.FP64:
        return Refusal(Reason.WRONG_DATATYPE, f"weights of {tensor.datatype}")
    if array.shape != (rows,):
        return Refusal(Reason.WRONG_SHAPE, f"weights {array.shape} instead of {(rows,)}")
    weights, cap = array.astype(np.float64), OWN_CAPS[rule]
    # The cap is an exponential, whose last bit is another one on another machine.
    if weights.min() < 0 or weights.max() > cap * (1 + _ROUNDING):
        return Refusal(Reason.NOT_A_PREDICTION, f"a weight outside 0 .. {cap:g}")
    rest = answer.model_copy(update={"outputs": answer.outputs[:1]})
    return rest, np.minimum(weights, cap)


def _abstained(event: Verified, reply: Reply) -> tuple[Given | None, Refusal | None]:
    """What an abstain says; None when it is an answer."""
    if reply.kind != "abstain":
        return None, None
    abstain = event.open(Abstain)
    answered = answered_by(event, reply)
    if isinstance(abstain, Refusal):
        return Given(answered, reply.model, None, abstain.reason), abstain
    reason = Reason.from_code(abstain.reason)
    return Given(answered, reply.model, None, reason, retry_ms=abstain.retry_ms), None


def _half_of(answer: Answer, reply: Reply, rows: int, columns: int) -> Half | Refusal:
    tensor = answer.outputs[0]
    if reply.share is None:
        return Refusal(Reason.BAD_SHARE, "an answer without a share for the helper")
    if answer.form != HALF or tensor.name != HALF or len(answer.outputs) != 1:
        return Refusal(Reason.WRONG_FORM, f"{answer.form} instead of {HALF}")
    array = to_array(tensor)
    if isinstance(array, Refusal):
        return array
    if tensor.datatype is not Datatype.UINT64:
        return Refusal(Reason.WRONG_DATATYPE, f"a share of {tensor.datatype}")
    if array.shape != (rows, columns):
        return Refusal(Reason.WRONG_SHAPE, f"{array.shape} instead of {(rows, columns)}")
    return Half(reply.share.id, array.astype(np.uint64))


def _labels(
    tensor: Tensor, array: NDArray[np.generic], rows: int, classes: int, levels: int
) -> NDArray[np.float64] | Refusal:
    """Votes of weight 1, or with more than one level those of label * levels + level."""
    if tensor.datatype is not Datatype.INT64:
        return Refusal(Reason.WRONG_DATATYPE, f"labels of {tensor.datatype}")
    if array.shape != (rows,):
        return Refusal(Reason.WRONG_SHAPE, f"{array.shape} instead of {(rows,)}")
    labels = array.astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes * levels:
        return Refusal(Reason.NOT_A_PREDICTION, f"a label outside 0 .. {classes * levels - 1}")
    weights = (labels % levels + 1) / levels
    return one_hot(labels // levels, classes) * weights[:, np.newaxis]


def _noised(
    tensor: Tensor, array: NDArray[np.generic], scale: int
) -> NDArray[np.float64] | Refusal:
    if tensor.datatype is not Datatype.INT64:
        return Refusal(Reason.WRONG_DATATYPE, f"integers on a grid as {tensor.datatype}")
    return array.astype(np.float64) / scale


def _probabilities(tensor: Tensor, array: NDArray[np.generic]) -> NDArray[np.float64] | Refusal:
    if tensor.datatype is not Datatype.FP64:
        return Refusal(Reason.WRONG_DATATYPE, f"probabilities of {tensor.datatype}")
    values = array.astype(np.float64)
    # Each entry first: a sum of huge ones would overflow.
    within = values.min() >= 0 and values.max() <= 1 + SIMPLEX_TOLERANCE
    if not within or np.abs(values.sum(axis=-1) - 1.0).max() > SIMPLEX_TOLERANCE:
        return Refusal(Reason.NOT_A_PREDICTION, "a row is not on the simplex")
    return values
