"""Whether health without labels says the truth: ranks, an injected drift, a colluding majority."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from fi_stream.aggregation.dawid_skene import dawid_skene
from fi_stream.aggregation.drift import Tolerance, alarm
from fi_stream.aggregation.health import agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.roles.traces import Trace

_ROWS = 2000
_SHIFT = 7
_SEED = 3


@dataclass(frozen=True, slots=True)
class Watched:
    """What health said of the participants of one trace.

    `rank_correlation` is Spearman's, of estimated with true accuracy. `false_alarms` counts
    participants with an alarm though nothing happened. Each drifts in turn at the same row:
    `delays` are the rows until the alarm, None where none came before the end. `liars` and `honest`
    are mean estimated accuracies when just more than half agree on random labels.
    """

    trace: str
    rank_correlation: float
    off: float
    false_alarms: int
    delays: tuple[int | None, ...]
    liars: float
    honest: float


def measure(trace: Trace) -> Watched:
    """Watch the first rows of a trace, and what it becomes when participants go wrong."""
    part = trace.rows(slice(0, _ROWS))
    labels, classes = part.logits.argmax(axis=2), part.logits.shape[2]
    true = (labels == part.labels).mean(axis=1)
    estimated = dawid_skene(labels, classes).accuracy
    agreed = agreement(labels, classes) > 0
    liars, honest = _fooled(labels, classes)
    return Watched(
        trace.name,
        spearman(estimated, true),
        float(np.abs(estimated - true).mean()),
        sum(alarm(one.tolist()) is not None for one in agreed),
        tuple(_delay(labels, classes, at) for at in range(labels.shape[0])),
        liars,
        honest,
    )


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The correlation of ranks, those that are equal sharing theirs; NaN where all are equal."""
    ranks = [_ranks(values) for values in (left, right)]
    centred = [one - one.mean() for one in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")


def table(found: Sequence[Watched]) -> Table:
    """A trace a line."""
    shown = Table(
        title="health without labels: estimated against true accuracy, and drift found",
        title_justify="left",
    )
    shown.add_column("trace", no_wrap=True)
    titles = (
        "rank correlation",
        "accuracy off by, points",
        "false alarms",
        "drifts found",
        "delay, rows (median)",
        "majority lies: said of liars / honest, %",
    )
    for title in titles:
        shown.add_column(title, justify="right")
    for one in found:
        delays = [delay for delay in one.delays if delay is not None]
        shown.add_row(
            one.trace,
            f"{one.rank_correlation:.2f}",
            f"{100 * one.off:.1f}",
            f"{one.false_alarms} of {len(one.delays)}",
            f"{len(delays)} of {len(one.delays)}",
            f"{median(delays):.0f}" if delays else "-",
            f"{100 * one.liars:.0f} / {100 * one.honest:.0f}",
        )
    known = [one.rank_correlation for one in found if not np.isnan(one.rank_correlation)]
    shown.caption = f"mean rank correlation {fmean(known):.2f}" if known else None
    return shown


def _delay(labels: NDArray[np.int64], classes: int, at: int) -> int | None:
    """Rows from the moment that a participant answers other queries than asked, to the alarm."""
    rows = labels.shape[1]
    start = min(2 * Tolerance().baseline, rows // 2)
    drifted = labels.copy()
    drifted[at, start:] = np.roll(labels[at], _SHIFT)[start:]
    found = alarm((agreement(drifted, classes)[at] > 0).tolist())
    return None if found is None or found < start else found - start


def _fooled(labels: NDArray[np.int64], classes: int) -> tuple[float, float]:
    """Mean estimated accuracy of a majority that says the same random labels, and of the others."""
    participants, rows = labels.shape
    majority = participants // 2 + 1
    lying = labels.copy()
    lying[:majority] = np.random.default_rng(_SEED).integers(0, classes, rows)
    found = dawid_skene(lying, classes).accuracy
    honest = float(found[majority:].mean()) if majority < participants else float("nan")
    return float(found[:majority].mean()), honest


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[:, np.newaxis] > values).sum(axis=1)
    same = (values[:, np.newaxis] == values).sum(axis=1)
    return np.asarray(below + (same - 1) / 2)
