"""Each rule decides a whole trace as a running aggregator would: learning from the past alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.competence import (
    Standard,
    density_standing,
    density_weights,
    energy,
    energy_weights,
)
from fi_stream.aggregation.consensus import softmax_of_mean
from fi_stream.aggregation.evidence import NAMES, Evidence, scores
from fi_stream.aggregation.robust import refuse_trim
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.aggregation.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from bench.traces import Trace

WINDOWS = Windows()

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


def decide(rule: str, trace: Trace) -> NDArray[np.float64]:
    """The scores of a rule on each row of a trace: [rows, classes].

    Sizes are those of the trace, not capped. What a participant would standardise on held-out data
    is standardised on its past queries, since traces hold no other data.
    """
    if rule == "logit_mean":
        # From the logits themselves: probabilities of large ones are 0 and have no logarithm.
        return _by_part(trace, lambda part: softmax_of_mean(trace.logits[:, part]))
    own, standing = _own(rule, trace), _standing(rule, trace)
    sizes = trace.sizes[:, np.newaxis]

    def on(part: slice) -> NDArray[np.float64]:
        evidence = Evidence(
            probabilities(trace.logits[:, part]),
            sizes=sizes,
            own=None if own is None else own[:, part],
            standing=None if standing is None else standing[:, part],
        )
        return scores(rule, evidence)

    return _by_part(trace, on)


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
        sure = _by_part(trace, lambda part: confidences(probabilities(trace.logits[:, part])).T)
        return _learnt(sure.T, spectral_weights)
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


def _by_part(trace: Trace, score: Callable[[slice], NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([score(part) for part in _parts(trace)])


def _parts(trace: Trace) -> Iterator[slice]:
    participants, rows, classes = trace.logits.shape
    step = max(1, _AT_ONCE // (participants * classes))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
