"""What is said of each settled query: all that settle together are decided in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.events.payloads import Contributor, Missing, Outcome, ResultPayload
from fi_stream.events.tensors import Datatype, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.aggregation.evaluate import Decision
    from fi_stream.aggregation.facts import Settled

_DECIDED = (Outcome.COMPLETE, Outcome.DECIDED, Outcome.PARTIAL)


def result_payloads(settled: Sequence[Settled]) -> list[ResultPayload]:
    """The payload of each query's result, in the order given."""
    gathered = {
        index: Gathered.of(one.asked, one.answers)
        for index, one in enumerate(settled)
        if one.outcome in _DECIDED and not one.relayed
    }
    decisions = dict(zip(gathered, evaluate(list(gathered.values())), strict=True))
    return [_payload(one, decisions.get(index)) for index, one in enumerate(settled)]


def contributors_of(one: Settled) -> tuple[Contributor, ...]:
    """Whose answers are in a result, and the noise that they declare."""
    return tuple(
        Contributor(member=member, model=given.model, noise=given.noise)
        for member, given in one.answers.items()
    )


def missing_of(one: Settled) -> tuple[Missing, ...]:
    """Whose answers are not in a result, and why."""
    return tuple(
        Missing(
            member=member,
            reason=reason.code if reason else None,
            retry_ms=one.retry_ms.get(member),
        )
        for member, reason in one.missing.items()
        if member not in one.relayed
    )


def outputs_of(decision: Decision) -> tuple[Tensor, Tensor]:
    """A decision as a result carries it: label INT64 [rows], scores FP64 [rows, classes]."""
    labels = decision.labels.astype("<i8")
    scores = decision.scores.astype("<f8")
    return (
        Tensor(name="label", datatype=Datatype.INT64, shape=labels.shape, data=labels.tobytes()),
        Tensor(name="scores", datatype=Datatype.FP64, shape=scores.shape, data=scores.tobytes()),
    )


def _payload(one: Settled, decision: Decision | None) -> ResultPayload:
    return ResultPayload(
        outcome=one.outcome,
        reason=one.reason.code if one.reason else None,
        outputs=() if decision is None else outputs_of(decision),
        contributors=() if decision is None else contributors_of(one),
        missing=missing_of(one),
        responses=tuple(one.relayed.values()) or None,
    )
