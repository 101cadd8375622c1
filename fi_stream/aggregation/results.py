"""What is said of each settled query: all that settle together are decided in one pass.

Where the aggregator adds the noise, it counts votes, and only the label that noise picks is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fi_stream.aggregation.evaluate import Decision, Gathered, evaluate, one_hot
from fi_stream.events.payloads import Contributor, Missing, Noise, Outcome, ResultPayload
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Settled
    from fi_stream.values import MemberId

_DECIDED = (Outcome.COMPLETE, Outcome.DECIDED, Outcome.PARTIAL)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Labels, int64 [rows], that noise picked; and what that cost the client."""

    labels: NDArray[np.int64]
    noise: Noise


class Central(Protocol):
    """Noise that the aggregator adds to the votes of all."""

    def choose(self, client: MemberId, votes: NDArray[np.int64]) -> Chosen | Refusal:
        """Charge the client, then pick a label for each row of votes, [rows, classes]."""


def result_payloads(
    settled: Sequence[Settled], central: Central | None = None
) -> list[ResultPayload]:
    """The payload of each query's result, in the order given.

    Args:
        settled: the queries.
        central: the aggregator's own noise, where the policy has it; it is asked once a query, and
            a query that it refuses is rejected.
    """
    gathered = {
        index: Gathered.of_settled(one)
        for index, one in enumerate(settled)
        if one.outcome in _DECIDED and not one.relayed
    }
    if central is not None:
        return [_noised(one, gathered.get(index), central) for index, one in enumerate(settled)]
    decisions = dict(zip(gathered, evaluate(list(gathered.values())), strict=True))
    return [_payload(one, decisions.get(index)) for index, one in enumerate(settled)]


def votes_of(gathered: Gathered) -> NDArray[np.int64]:
    """Whole votes, [rows, classes]: one of each contributor, whatever weight it claims."""
    first = next(iter(gathered.answers.values()))
    votes = np.zeros(first.shape, dtype=np.int64)
    for answer in gathered.answers.values():
        votes[np.arange(len(answer)), answer.argmax(axis=1)] += 1
    return votes


def _noised(one: Settled, gathered: Gathered | None, central: Central) -> ResultPayload:
    if gathered is None:
        return _payload(one, None)
    votes = votes_of(gathered)
    chosen = central.choose(one.asked.client, votes)
    if isinstance(chosen, Refusal):
        return ResultPayload(outcome=Outcome.REJECTED, reason=chosen.reason.code)
    # The scores say no more than the label: they are made of it.
    decision = Decision(chosen.labels, one_hot(chosen.labels, votes.shape[1]))
    return _payload(one, decision, chosen.noise)


def contributors_of(one: Settled, decision: Decision | None = None) -> tuple[Contributor, ...]:
    """Whose answers are in a result, the noise that they declare, and what they weighed."""
    known = None if decision is None else decision.weights
    weights = [None] * len(one.answers) if known is None else np.minimum(known, 1.0).tolist()
    return tuple(
        Contributor(member=member, model=given.model, noise=given.noise, weight=weight)
        for (member, given), weight in zip(one.answers.items(), weights, strict=True)
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


def outputs_of(decision: Decision) -> tuple[Tensor, ...]:
    """A decision as a result carries it: label, scores, and the certificate if there is one."""
    labels = decision.labels.astype("<i8")
    scores = decision.scores.astype("<f8")
    outputs = (
        Tensor(name="label", datatype=Datatype.INT64, shape=labels.shape, data=labels.tobytes()),
        Tensor(name="scores", datatype=Datatype.FP64, shape=scores.shape, data=scores.tobytes()),
    )
    if decision.withstands is None or decision.margin is None:
        return outputs
    shape = labels.shape
    most, lead = decision.withstands.astype("<i8"), decision.margin.astype("<f8")
    return (
        *outputs,
        Tensor(name="withstands", datatype=Datatype.INT64, shape=shape, data=most.tobytes()),
        Tensor(name="margin", datatype=Datatype.FP64, shape=shape, data=lead.tobytes()),
    )


def _payload(one: Settled, decision: Decision | None, noise: Noise | None = None) -> ResultPayload:
    return ResultPayload(
        outcome=one.outcome,
        reason=one.reason.code if one.reason else None,
        outputs=() if decision is None else outputs_of(decision),
        contributors=() if decision is None else contributors_of(one, decision),
        missing=missing_of(one),
        responses=tuple(one.relayed.values()) or None,
        noise=noise,
        rule=None if decision is None else one.rule,
    )
