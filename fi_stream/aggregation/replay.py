"""Recorded queries decided again: as they were, to the bit, or as they would have been."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.aggregation.results import outputs_of
from fi_stream.aggregation.whatif import AS_IT_WAS, WhatIf, numbers, settled_again
from fi_stream.events.payloads import Outcome
from fi_stream.events.recording import Recorded, RecordedAnswer
from fi_stream.events.tensors import Datatype, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.aggregation.evaluate import Decision
    from fi_stream.aggregation.facts import Settled
    from fi_stream.events.payloads import ResultPayload
    from fi_stream.values import MemberId

_DECIDED = (Outcome.COMPLETE, Outcome.DECIDED, Outcome.PARTIAL)


@dataclass(frozen=True, slots=True, eq=False)
class Redecided:
    """A query's outcome, who contributed, and what they said together where it was decided."""

    outcome: Outcome
    contributors: tuple[MemberId, ...]
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Recorded queries against the same, decided again.

    `identical` counts queries with the same outcome, labels and scores, to the bit; `relabelled`
    rows that have another label, or one where there was none, or none where there was one. `right`
    and `known` count rows with a right label and rows whose right label is known.
    """

    queries: int
    rows: int
    outcomes: Mapping[str, int]
    identical: int
    relabelled: int
    right: int
    known: int

    @property
    def accuracy(self) -> float | None:
        """The part of rows that got the right label, of those whose right label is known."""
        return self.right / self.known if self.known else None


def recorded(
    one: Settled, payload: ResultPayload, quorum: int, *, gate: bool = False
) -> Recorded | None:
    """A settled query as a recording keeps it; None where an answer was not for us to open.

    `quorum` and `gate` are the policy's.
    """
    came = {**one.answers, **one.left_out}
    if any(given.prediction is None for given in came.values()):
        return None
    return Recorded(
        client=one.asked.client,
        ask=one.asked.ask,
        digest=one.asked.digest,
        participants=tuple(sorted(one.asked.participants)),
        quorum=quorum,
        answers=tuple(
            RecordedAnswer(
                member=member,
                model=given.model,
                at=given.answered.at,
                prediction=_tensor("prediction", given.prediction),
                size=one.asked.sizes.get(member),
                own=None if given.own is None else _tensor("weight", given.own),
                standing=one.standing.get(member),
            )
            for member, given in sorted(came.items())
            if given.prediction is not None
        ),
        result=payload,
        share=one.share if one.share < 1 else None,
        gate=gate,
    )


def redecide(queries: Sequence[Recorded], change: WhatIf = AS_IT_WAS) -> list[Redecided]:
    """Decide recorded queries again, in the order given.

    Raises:
        ConfigError: a rule does not exist, or it reads what was not recorded.
    """
    settled = settled_again(queries, change)
    decided = [at for at, one in enumerate(settled) if one.outcome in _DECIDED and one.answers]
    gathered = [Gathered.of_settled(settled[at]) for at in decided]
    decisions = dict(zip(decided, evaluate(gathered), strict=True))
    return [
        Redecided(one.outcome, tuple(one.answers) if at in decisions else (), decisions.get(at))
        for at, one in enumerate(settled)
    ]


def compare(queries: Sequence[Recorded], again: Sequence[Redecided]) -> Compared:
    """Count what came out otherwise, and what is right."""
    identical = relabelled = right = known = 0
    for one, new in zip(queries, again, strict=True):
        before = _labels(one)
        after = None if new.decision is None else new.decision.labels
        identical += _same(one, new)
        relabelled += _differing(before, after, one.ask.rows)
        truth = None if one.truth is None else numbers(one.truth)
        if truth is not None:
            known += truth.size
            right += 0 if after is None else int((truth == after).sum())
    return Compared(
        len(queries),
        sum(one.ask.rows for one in queries),
        dict(Counter(new.outcome.value for new in again)),
        identical,
        relabelled,
        right,
        known,
    )


def _same(one: Recorded, new: Redecided) -> bool:
    outputs = {} if new.decision is None else _outputs(new.decision)
    stored = {tensor.name: tensor.data for tensor in one.result.outputs}
    return one.result.outcome is new.outcome and outputs == stored


def _outputs(decision: Decision) -> dict[str, bytes]:
    return {tensor.name: tensor.data for tensor in outputs_of(decision)}


def _differing(
    before: NDArray[np.generic] | None, after: NDArray[np.int64] | None, rows: int
) -> int:
    if before is None or after is None:
        return 0 if before is None and after is None else rows
    return int((before != after).sum())


def _labels(one: Recorded) -> NDArray[np.generic] | None:
    found = next((tensor for tensor in one.result.outputs if tensor.name == "label"), None)
    return None if found is None else numbers(found)


def _tensor(name: str, values: NDArray[np.float64]) -> Tensor:
    return Tensor(
        name=name,
        datatype=Datatype.FP64,
        shape=values.shape,
        data=values.astype("<f8").tobytes(),
    )
