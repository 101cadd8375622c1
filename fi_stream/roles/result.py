"""A result as a client reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import to_array
from fi_stream.federation.policy import Protection
from fi_stream.privacy.guarantee import guarantee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.events.header import Ask
    from fi_stream.events.payloads import Contributor, Noise, Outcome, ResultPayload
    from fi_stream.privacy.guarantee import Guarantee


@dataclass(frozen=True, slots=True)
class Decided:
    """What the contributors said together: a class index and the scores of each row.

    `withstands` is [rows]: the largest f such that no f contributors, answering anything, could
    have changed the label, and `margin` [rows] by how much it leads, as a part of all that they
    could have given; None where the rule or the noise allows no such certificate.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    names: tuple[str, ...]
    withstands: NDArray[np.int64] | None = None
    margin: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one query.

    `outcome` is None when no result came by the deadline: what happened is then unknown.
    `latency_ms` is from the ask to the result, `missing` says why each absent participant is.
    `retry_after_ms` is when all that had no room for the query expect to have some. `noise` is what
    the aggregator added to the votes; `honest` is of how many contributors the noise is enough
    under `secagg`. `withstand` is of how many lying contributors the policy wants each label to be
    independent. `decided_by` is the rule that decided, where it is not the one that was asked for.
    """

    ask: Ask
    outcome: Outcome | None
    latency_ms: float
    reason: Reason | None = None
    decided: Decided | None = None
    contributors: tuple[Contributor, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    retry_after_ms: int | None = None
    noise: Noise | None = None
    honest: int | None = None
    withstand: int = 0
    decided_by: str | None = None

    @property
    def certified(self) -> bool | None:
        """Whether each label withstands as many contributors as the policy wants.

        None where it wants none, or nothing was decided. A label without certificate withstands
        nobody for certain.
        """
        if self.withstand == 0 or self.decided is None:
            return None
        known = self.decided.withstands
        return known is not None and bool((known >= self.withstand).all())

    @property
    def query_id(self) -> str:
        """The query's id in hexadecimal."""
        return self.ask.query.hex()

    @property
    def overloaded(self) -> bool:
        """Whether nothing was decided because somebody had no room: ask less."""
        if self.outcome is None or self.decided is not None:
            return False
        return self.reason is Reason.OVERLOADED or self.retry_after_ms is not None

    @property
    def labels(self) -> list[str] | None:
        """The class of each row by name; None when nothing was decided."""
        decided = self.decided
        return None if decided is None else [decided.names[i] for i in decided.labels]

    @property
    def guarantee(self) -> Guarantee | None:
        """What the result may tell of one participant, as whoever added noise declares it."""
        return guarantee(
            Protection(self.ask.protection),
            [contributor.noise for contributor in self.contributors],
            central=self.noise,
            honest=self.honest,
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; never NaN or infinity."""
        decided, privacy = self.decided, self.guarantee
        return {
            "query": self.query_id,
            "outcome": None if self.outcome is None else self.outcome.value,
            "reason": None if self.reason is None else self.reason.value,
            "rule": self.ask.rule,
            "decided_by": None if decided is None else self.decided_by or self.ask.rule,
            "protection": self.ask.protection,
            "labels": self.labels,
            "scores": None
            if decided is None
            else [
                {name: float(score) for name, score in zip(decided.names, row, strict=True)}
                for row in decided.scores
            ],
            "withstands": _plain(None if decided is None else decided.withstands),
            "margin": _plain(None if decided is None else decided.margin),
            "certified": self.certified,
            "contributors": [
                {"member": c.member, "model": c.model, "weight": c.weight}
                for c in self.contributors
            ],
            "missing": self.missing,
            "retry_after_ms": self.retry_after_ms,
            "privacy": None if privacy is None else privacy.to_dict(),
            "latency_ms": round(self.latency_ms, 3),
        }


def read_result(
    ask: Ask, payload: ResultPayload, classes: Sequence[str], latency_ms: float
) -> Result | Refusal:
    """Check a result's payload against its query."""
    decided = None
    if payload.outputs:
        read = _decided(ask, payload, tuple(classes))
        if isinstance(read, Refusal):
            return read
        decided = read
    return Result(
        ask=ask,
        outcome=payload.outcome,
        latency_ms=latency_ms,
        reason=_reason(payload.reason),
        decided=decided,
        contributors=payload.contributors,
        missing={one.member: _why(one.reason) for one in payload.missing},
        retry_after_ms=max(
            (one.retry_ms for one in payload.missing if one.retry_ms is not None), default=None
        ),
        noise=payload.noise,
        decided_by=payload.rule,
    )


def _decided(ask: Ask, payload: ResultPayload, names: tuple[str, ...]) -> Decided | Refusal:
    tensors = {tensor.name: tensor for tensor in payload.outputs}
    if not {"label", "scores"} <= tensors.keys():
        return Refusal(Reason.WRONG_FORM, "a result without label and scores")
    labels, scores = to_array(tensors["label"]), to_array(tensors["scores"])
    if isinstance(labels, Refusal):
        return labels
    if isinstance(scores, Refusal):
        return scores
    if labels.shape != (ask.rows,) or scores.shape != (ask.rows, len(names)):
        return Refusal(Reason.WRONG_SHAPE, f"{labels.shape}, {scores.shape}")
    whole = labels.astype(np.int64)
    if whole.min() < 0 or whole.max() >= len(names):
        return Refusal(Reason.NOT_A_PREDICTION, "a label that the task does not have")
    read = [to_array(tensors[name]) for name in ("withstands", "margin") if name in tensors]
    certified = [one for one in read if not isinstance(one, Refusal)]
    if len(certified) < len(read):
        return next(one for one in read if isinstance(one, Refusal))
    if any(one.shape != (ask.rows,) for one in certified) or len(certified) == 1:
        return Refusal(Reason.WRONG_SHAPE, f"{[one.shape for one in certified]} of a certificate")
    if not certified:
        return Decided(whole, scores.astype(np.float64), names)
    most, lead = certified[0].astype(np.int64), certified[1].astype(np.float64)
    return Decided(whole, scores.astype(np.float64), names, most, lead)


def _plain(numbers: NDArray[np.generic] | None) -> list[object] | None:
    return None if numbers is None else numbers.tolist()


def _reason(code: int | None) -> Reason | None:
    return None if code is None else Reason.from_code(code)


def _why(code: int | None) -> str:
    reason = _reason(code)
    if reason is not None:
        return reason.value
    return "silent" if code is None else f"reason {code}"
