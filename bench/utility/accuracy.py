"""How often each rule is right on each trace, and how far from `soft` on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from bench.utility.deciding import decide, rules_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from fi_stream.roles.traces import Trace

BASELINE = "soft"
BEST = "best_single"
DRAWN = "hard_drawn"
"""`hard` with its ties drawn, as an aggregator draws them.

The row `hard` gives each tie to the class that stands first, as published figures do, so that the
two compare; that favours whoever numbers classes well.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One rule on one trace; all three are parts of 1.

    `standard_error` is that of `difference_to_soft`, of the differences row by row.
    """

    trace: str
    rule: str
    accuracy: float
    difference_to_soft: float
    standard_error: float


def measure(trace: Trace) -> Iterator[Found]:
    """Every rule on a trace, and the participant that alone is best on it."""
    baseline = credit(decide(BASELINE, trace), trace.labels)
    alone = (credit(logits, trace.labels) for logits in trace.logits)
    best = max(alone, key=lambda right: float(right.mean()))
    for rule in rules_for(trace):
        scores = decide(rule, trace)
        right = credit(scores, trace.labels)
        if rule == "hard":
            yield _found(trace, DRAWN, right, baseline)
            right = np.asarray(scores.argmax(axis=1) == trace.labels, dtype=np.float64)
        yield _found(trace, rule, right, baseline)
    yield _found(trace, BEST, best, baseline)


def credit(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each row is worth: 1 when right, and a part of 1 where the right class ties with others.

    That is what is to be expected of `ties.labels_of`, which draws one of them.

    Args:
        scores: [rows, classes].
        labels: [rows].

    Returns:
        [rows].
    """
    best = scores == scores.max(axis=1, keepdims=True)
    return np.asarray(best[np.arange(labels.size), labels] / best.sum(axis=1))


def paired(right: NDArray[np.float64], baseline: NDArray[np.float64]) -> tuple[float, float]:
    """The mean difference of the same rows, and its standard error."""
    difference = right - baseline
    if difference.size < 2:
        return float(difference.mean()), 0.0
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(difference.size))


def over_seeds(found: Iterable[Found], groups: Sequence[tuple[str, str]]) -> list[Found]:
    """The means over traces of one group; their errors are of independent traces.

    Args:
        found: rules on traces.
        groups: the name of each trace, and of its group.
    """
    group_of = dict(groups)
    together: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        together.setdefault((group_of[one.trace], one.rule), []).append(one)
    return [
        Found(
            group,
            rule,
            fmean(one.accuracy for one in same),
            fmean(one.difference_to_soft for one in same),
            float(np.sqrt(sum(one.standard_error**2 for one in same))) / len(same),
        )
        for (group, rule), same in together.items()
    ]


def _found(
    trace: Trace, rule: str, right: NDArray[np.float64], baseline: NDArray[np.float64]
) -> Found:
    difference, error = paired(right, baseline)
    return Found(trace.name, rule, float(right.mean()), difference, error)
