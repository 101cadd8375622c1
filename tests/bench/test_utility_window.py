"""A running aggregator's window, fed a trace row by row, decides as the bench does over traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_utility import made_up, save

from bench.utility.deciding import decide, probabilities
from bench.utility.liar import with_liar
from fi_stream.aggregation.caps import TIMES_MEDIAN, capped_sizes
from fi_stream.aggregation.competence import density_weights
from fi_stream.aggregation.evaluate import Gathered, evaluate, normalised
from fi_stream.aggregation.evidence import SIZED, STANDING
from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.guard import GUARDED, Guard
from fi_stream.aggregation.replay import redecide
from fi_stream.aggregation.whatif import WhatIf
from fi_stream.aggregation.window import Window
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.federation.policy import Policy
from fi_stream.roles.recordings import read_recording
from fi_stream.roles.traces import read, shuffled
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rule", ["spectral", "hybrid", "competence_density", "entropy", "hard"])
def test_a_row_at_a_time_is_decided_as_the_bench_decides_the_whole_trace(rule: str) -> None:
    trace = with_liar(made_up(participants=4, rows=330))
    members = [f"p{number}" for number in range(5)]
    sizes = dict(zip(members, capped_sizes(trace.sizes).tolist(), strict=True))
    said, own = probabilities(trace.logits), density_weights(trace.log_density_ratio)
    window, gathered = Window(Policy(rules=(rule,), gate=True)), []
    for row in range(trace.labels.size):
        digest = row.to_bytes(32, "big")
        ask = Ask(
            query=digest[16:],
            partition=0,
            rule=rule,
            rows=1,
            protection="trusted",
            created=0,
            deadline=9,
        )
        asked = Asked("alice", digest, ask, 1, frozenset(members), sizes=sizes)
        one = slice(row, row + 1)
        answers = {
            member: Given(
                Answered(member, digest, BrokerMillis(1)), "m", said[at, one], own=own[at, one]
            )
            for at, member in enumerate(members)
        }
        settled = window.settle(Settled(asked, Outcome.COMPLETE, answers, {}))
        gathered.append(Gathered.of_settled(settled))
    assert set(gathered[-1].answers) == set(members[:4]), "the liar is left out by now"
    found = np.concatenate([decision.scores for decision in evaluate(gathered)])
    np.testing.assert_array_equal(found, normalised(decide(rule, trace, GUARDED)))


@pytest.mark.parametrize(
    "rule", ["spectral", "hybrid", "competence_density", "competence_entropy", "median"]
)
def test_a_replay_of_a_trace_by_another_rule_decides_as_the_bench_does(
    rule: str, tmp_path: Path
) -> None:
    """The bench believes sizes as they are; what a federation records is capped, and so is this."""
    made = made_up(rows=330)
    save(made, tmp_path)
    kept = read_recording(tmp_path / f"{made.name}.npz").queries
    trace = shuffled(read(tmp_path / f"{made.name}.npz"))
    again = redecide(kept, WhatIf(rule=rule))
    found = np.concatenate([one.decision.scores for one in again if one.decision is not None])
    expected = normalised(decide(rule, trace, Guard(times_median=TIMES_MEDIAN)))
    np.testing.assert_array_equal(found, expected)
    # no sizes: not a bit is otherwise without the cap
    if rule in STANDING - SIZED:
        np.testing.assert_array_equal(found, normalised(decide(rule, trace)))
