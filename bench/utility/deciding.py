"""Each rule decides a whole trace as a running aggregator would: learning from the past alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.caps import capped_sizes
from fi_stream.aggregation.competence import (
    Standard,
    density_standing,
    density_weights,
    energy,
    energy_weights,
)
from fi_stream.aggregation.consensus import softmax_of_mean
from fi_stream.aggregation.dependence import FROM_QUERIES, gate
from fi_stream.aggregation.evidence import NAMES, Evidence
from fi_stream.aggregation.guard import UNGUARDED, Guard, guarded
from fi_stream.aggregation.robust import refuse_trim
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.aggregation.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fi_stream.roles.traces import Trace

_AT_ONCE = 2_000_000
"""Numbers in a stack, so that large traces do not take all memory."""


def rules_for(trace: Trace) -> list[str]:
    """The rules that a trace has all it takes for: none of test-time augmentation, of one form."""
    trimmed = refuse_trim(trace.logits.shape[0]) is None
    return [
        name
        for name in NAMES
        if not name.startswith("tta_") and (trimmed or name != "trimmed_mean")
    ]


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis, whatever the logits' scale."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def decide(
    rule: str,
    trace: Trace,
    guard: Guard = UNGUARDED,
    judged: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The scores of a rule on each row of a trace: [rows, classes].

    What a participant would standardise on held-out data is standardised on its past queries, since
    traces hold no other data. `judged` is what `counting` says, where that is known already.
    """
    own, standing = _own(rule, trace), _standing(rule, trace)
    sizes = trace.sizes
    if guard.times_median is not None:
        sizes = capped_sizes(sizes, guard.times_median)

    def on(rows: NDArray[np.int64], counts: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        logits = trace.logits[:, rows]
        judged_yet = not guard.gate or counts is not None
        if rule == "logit_mean" and judged_yet:
            # From the logits themselves: probabilities of large ones are 0 and have no logarithm.
            return softmax_of_mean(logits if counts is None else logits[counts])
        evidence = Evidence(
            probabilities(logits),
            sizes=sizes[:, np.newaxis],
            own=None if own is None else own[:, rows],
            standing=None if standing is None else standing[:, rows],
        )
        return guarded(rule, evidence, guard, counts)

    found = np.empty(trace.logits.shape[1:])
    for rows, counts in _parts(trace, guard, judged):
        found[rows] = on(rows, counts)
    return found


def counting(trace: Trace) -> NDArray[np.bool_]:
    """Whom the gate lets count on each row after `FROM_QUERIES`: [participants, rows]."""
    labels = trace.logits.argmax(axis=2)
    kept = np.ones(labels.shape, dtype=np.bool_)
    for block, past in WINDOWS.over(labels.shape[1]):
        if past is not None and block.start >= FROM_QUERIES:
            kept[:, block] = gate(labels[:, past])[:, np.newaxis]
    return kept


def _own(rule: str, trace: Trace) -> NDArray[np.float64] | None:
    """The weights that participants compute themselves: [participants, rows]."""
    if rule == "competence_density":
        return density_weights(trace.log_density_ratio)
    if rule == "competence_energy":
        found = np.ones(trace.logits.shape[:2])
        energies = energy(trace.logits)
        for block, past in WINDOWS.over(trace.labels.size):
            if past is not None:
                for own, values in zip(found, energies, strict=True):
                    own[block] = energy_weights(values[block], Standard.of(values[past]))
        return found
    return None


def _standing(rule: str, trace: Trace) -> NDArray[np.float64] | None:
    """What the aggregator learns of participants: [participants, rows]; 1 until it is warm."""
    if rule in {"spectral", "hybrid"}:
        return _learnt(_sure(trace), spectral_weights)
    if rule == "competence_density":
        return _learnt(density_weights(trace.log_density_ratio), density_standing)
    return None


def _learnt(
    seen: NDArray[np.float64], learn: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    standing = np.ones_like(seen)
    for block, past in WINDOWS.over(seen.shape[1]):
        if past is not None:
            standing[:, block] = learn(seen[:, past])[:, np.newaxis]
    return standing


def _sure(trace: Trace) -> NDArray[np.float64]:
    """How sure each participant is of each row: [participants, rows]."""
    found = np.empty(trace.logits.shape[:2])
    for rows, _ in _parts(trace, UNGUARDED):
        found[:, rows] = confidences(probabilities(trace.logits[:, rows]))
    return found


def _parts(
    trace: Trace, guard: Guard, counts: NDArray[np.bool_] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
    """Rows on which the same participants count, not too many at once; None: not judged yet."""
    participants, rows, classes = trace.logits.shape
    step = max(1, _AT_ONCE // (participants * classes))
    start_of_judging = min(FROM_QUERIES, rows) if guard.gate else rows
    for start in range(0, start_of_judging, step):
        yield np.arange(start, min(start + step, start_of_judging)), None
    if start_of_judging == rows:
        return
    counts = counting(trace) if counts is None else counts
    patterns, which = np.unique(counts[:, start_of_judging:], axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        same = start_of_judging + np.flatnonzero(which.reshape(-1) == number)
        for start in range(0, same.size, step):
            yield same[start : start + step], pattern
