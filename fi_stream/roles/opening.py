"""The result of a query under `secagg` as its client opens it: a sum put together (DESIGN 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.evaluate import Decision, normalised
from fi_stream.aggregation.results import outputs_of
from fi_stream.aggregation.sums import scores_of
from fi_stream.aggregation.ties import labels_of
from fi_stream.events.payloads import Outcome, ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import HalfPayload, ReleasePayload
from fi_stream.events.tensors import Datatype, to_array
from fi_stream.federation.roster import Role
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.sums import CAP_STEPS, part_of
from fi_stream.secagg.shares import opened
from fi_stream.secagg.width import refuse_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.events.tensors import Tensor
    from fi_stream.federation.federation import Federation
    from fi_stream.sealing.gate import Gate, Verified

_WITH_SUM = (Outcome.COMPLETE, Outcome.PARTIAL)
_WITHOUT_SUM = (Outcome.NO_QUORUM, Outcome.REJECTED)


def open_result(event: Verified, gate: Gate) -> ResultPayload | Refusal:
    """Open a verified result of a query of ours under `secagg`.

    Returns:
        What became of it; `unknown_epoch` while the grant of what is within it has not come.
    """
    member = event.federation.member(event.header.sender)
    if member is not None and Role.HELPER in member.roles:
        return _open_sum(event, gate)
    payload = event.open(ResultPayload)
    if isinstance(payload, ResultPayload) and (
        payload.outputs or payload.outcome not in _WITHOUT_SUM
    ):
        return Refusal(Reason.WRONG_FORM, "the outcome of a secure sum without the helper's half")
    return payload


def _open_sum(event: Verified, gate: Gate) -> ResultPayload | Refusal:
    release = event.open(ReleasePayload)
    if isinstance(release, Refusal):
        return release
    inner = gate.within(event, release.half, "half")
    if isinstance(inner, Refusal):
        return inner
    half = inner.open(HalfPayload)
    if isinstance(half, Refusal):
        return half
    total = _total(event, release, half)
    if isinstance(total, Refusal):
        return total
    scores = scores_of(total, half.scale)
    digest = b"" if event.header.reply is None else event.header.reply.digest
    labels = labels_of(scores, [digest], [len(scores)])
    return ResultPayload(
        outcome=half.outcome,
        outputs=outputs_of(Decision(labels, normalised(scores))),
        contributors=half.contributors,
        missing=half.missing,
    )


def _total(
    event: Verified, release: ReleasePayload, half: HalfPayload
) -> NDArray[np.int64] | Refusal:
    """The sum in steps, [rows, classes + 1], if honest answers can have it."""
    refusal = _unfit(event.federation, release, half)
    if refusal is not None:
        return refusal
    shape = (event.header.ask.rows, len(event.federation.task.classes) + 1)
    ours, theirs = _array(half.total, shape), _array(release.total, shape)
    if isinstance(ours, Refusal):
        return ours
    if isinstance(theirs, Refusal):
        return theirs
    total = opened(ours, theirs)
    policy, answers = event.federation.policy.secagg, len(half.contributors)
    sigma = 0.0 if policy is None else part_of(policy)
    return refuse_sum(total, answers, CAP_STEPS, sigma) or total


def _unfit(federation: Federation, release: ReleasePayload, half: HalfPayload) -> Refusal | None:
    members = [each.member for each in half.contributors]
    if half.members != release.members:
        return Refusal(Reason.WRONG_FORM, "the halves are of different sets of answers")
    if half.outcome not in _WITH_SUM or half.scale != GRID:
        return Refusal(Reason.WRONG_FORM, f"a sum with outcome {half.outcome}, scale {half.scale}")
    if len(set(members)) != len(members) or not federation.participants.issuperset(members):
        return Refusal(Reason.WRONG_FORM, "contributors that are no participants, or named twice")
    if len(members) < federation.least_answers:
        return Refusal(Reason.TOO_FEW_ANSWERS, f"a sum of {len(members)}")
    return None


def _array(tensor: Tensor, shape: tuple[int, int]) -> NDArray[np.uint64] | Refusal:
    array = to_array(tensor)
    if isinstance(array, Refusal):
        return array
    if tensor.datatype is not Datatype.UINT64:
        return Refusal(Reason.WRONG_DATATYPE, f"half of a sum as {tensor.datatype}")
    if array.shape != shape:
        return Refusal(Reason.WRONG_SHAPE, f"{array.shape} instead of {shape}")
    return array.astype(np.uint64)
