"""A participant that knows nothing, is always sure, and claims ten times the data of anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.utility.accuracy import credit
from bench.utility.deciding import counting, decide, rules_for
from fi_stream.aggregation.dependence import FROM_QUERIES
from fi_stream.aggregation.guard import GUARDED
from fi_stream.roles.traces import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMES = 10
_SURE = 30.0
_SEED = 11


@dataclass(frozen=True, slots=True)
class Harm:
    """What one rule is right on, without and with the liar, without and with cap and gate.

    All are parts of 1, over all rows of a trace. `lost` is what the liar costs a guarded
    federation, and `lost_judged` what it costs on the rows after the gate has judged, against the
    same federation without guard and liar.
    """

    trace: str
    rule: str
    alone: float
    taken: float
    guarded_alone: float
    guarded: float
    lost: float
    lost_judged: float


def measure(trace: Trace) -> Iterator[Harm]:
    """Each rule with and without the liar."""
    attacked = with_liar(trace)
    counts, counts_attacked = counting(trace), counting(attacked)
    for rule in rules_for(trace):
        alone = credit(decide(rule, trace), trace.labels)
        taken = credit(decide(rule, attacked), trace.labels)
        guarded_alone = credit(decide(rule, trace, GUARDED, counts), trace.labels)
        guarded = credit(decide(rule, attacked, GUARDED, counts_attacked), trace.labels)
        judged = slice(FROM_QUERIES, None)
        late = (alone - guarded)[judged]
        yield Harm(
            trace.name,
            rule,
            float(alone.mean()),
            float(taken.mean()),
            float(guarded_alone.mean()),
            float(guarded.mean()),
            float((guarded_alone - guarded).mean()),
            float(late.mean()) if late.size else 0.0,
        )


def with_liar(trace: Trace, seed: int = _SEED) -> Trace:
    """The trace with one more participant, which says a random class each time, and is sure."""
    _, rows, classes = trace.logits.shape
    said = np.random.default_rng(seed).integers(0, classes, rows)
    logits = np.zeros((1, rows, classes))
    logits[0, np.arange(rows), said] = _SURE
    size = TIMES * max(1.0, float(trace.sizes.max()))
    return Trace(
        trace.name,
        np.concatenate([trace.logits, logits]),
        trace.labels,
        np.concatenate([trace.class_counts, np.full((1, classes), size / classes)]),
        # more than is believed: it claims to know every query best
        np.concatenate([trace.log_density_ratio, np.full((1, rows), 100.0)]),
    )
