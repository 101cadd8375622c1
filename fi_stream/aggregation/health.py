"""How each participant does in a window of past queries, without any true label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.dawid_skene import dawid_skene

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """A window of past rows, as an aggregator saw them; each [participants, rows].

    `labels` are class indices, -1 for an abstain or nothing; `confidence` is the probability of the
    label, NaN where there is none; `latency_ms` is the time from query to answer, NaN where none
    came. `waited` is False where nobody knows whether it would have answered: it was not asked, or
    not waited for.
    """

    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    waited: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Health:
    """One participant in a window; None where it said nothing that would tell.

    `accuracy` is estimated (`dawid_skene`), `overconfidence` is how much surer it is than it is
    right, by that estimate; `agreement` is how often it says what the others together say.
    `abstained` is the part of the rows for which it was waited in vain. Latencies are milliseconds.
    """

    accuracy: float | None
    overconfidence: float | None
    agreement: float | None
    abstained: float | None
    latency_p50: float | None
    latency_p99: float | None


def health(window: Observed, classes: int) -> list[Health]:
    """Each participant's health, in the order of the window."""
    believed = dawid_skene(window.labels, classes)
    agreed = agreement(window.labels, classes)
    return [
        _one(
            float(believed.accuracy[at]),
            agreed[at],
            window.labels[at][window.waited[at]],
            window.confidence[at],
            window.latency_ms[at],
        )
        for at in range(window.labels.shape[0])
    ]


def agreement(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Whether each label is the one that most of the others say.

    Args:
        labels: [participants, rows] class indices; -1 where a participant did not answer.
        classes: how many there are.

    Returns:
        [participants, rows] 1 or 0, a part of 1 where the others tie, NaN where there is no label
        or nobody else answered.
    """
    said = labels[..., np.newaxis] == np.arange(classes)
    votes = said.sum(axis=0)
    found = np.full(labels.shape, np.nan)
    for at, own in enumerate(said):
        others = votes - own
        best = (others == others.max(axis=1, keepdims=True)) & (others > 0)
        told = own.any(axis=1) & best.any(axis=1)
        tied = np.maximum(best.sum(axis=1), 1)
        found[at, told] = ((own & best).sum(axis=1) / tied)[told]
    return found


def _one(
    accuracy: float,
    agreed: NDArray[np.float64],
    labels: NDArray[np.int64],
    confidence: NDArray[np.float64],
    latency_ms: NDArray[np.float64],
) -> Health:
    sure = _mean(confidence)
    known = None if np.isnan(accuracy) else accuracy
    times = latency_ms[np.isfinite(latency_ms)]
    return Health(
        accuracy=known,
        overconfidence=None if known is None or sure is None else sure - known,
        agreement=_mean(agreed),
        abstained=float((labels < 0).mean()) if labels.size else None,
        latency_p50=float(np.quantile(times, 0.5)) if times.size else None,
        latency_p99=float(np.quantile(times, 0.99)) if times.size else None,
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
