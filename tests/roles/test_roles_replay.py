"""What a running federation recorded under rules that learn, decided again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import rows, say_examples
from test_roles_own_weights import RULES, learnt, prepared
from test_roles_window import AT_RANDOM, vague

from bench.privacy.replaying import Silent
from fi_stream import connect
from fi_stream.aggregation.replay import compare, redecide
from fi_stream.aggregation.whatif import WhatIf
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.noising import Noising, noised
from fi_stream.roles.recordings import read_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stage import Stage

    from fi_stream.events.recording import Recorded


async def record(
    stage: Stage, file: Path, participants: Iterable[str], asked: Iterable[tuple[int, str]]
) -> tuple[Recorded, ...]:
    """Ask so many rows under each rule, one query after another; ratios are learnt of the first."""
    stop = asyncio.Event()
    async with stage.running(*participants), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_aggregator(stage.file("agg"), stop, record=file))
        async with connect(stage.file("alice")) as client:
            for number, (count, rule) in enumerate(asked):
                result = await client.ask(rows(count, number), deadline=10.0, rule=rule)
                assert result.outcome == "complete"
                if number == 0 and "competence_density" in stage.federation.policy.rules:
                    await learnt(stage, "alice")
        stop.set()
    return read_recording(file).queries


@pytest.mark.parametrize("share", [None, 0.4])
async def test_rules_that_weigh_themselves_and_learn_are_decided_again_to_the_bit(
    build: Callable[..., Stage], tmp_path: Path, share: float | None
) -> None:
    policy = {"recording": True, "weight_share": share, "protections": ("trusted",), "secagg": None}
    stage = prepared(build, policy)
    asked = [(100, RULES[0]), (130, RULES[0]), (60, RULES[1]), (5, RULES[0]), (3, "tta_js")]
    kept = await record(stage, tmp_path / "today.rec", ("p1", "p2", "p3"), asked)
    assert [one.share for one in kept] == [share] * 5
    assert len({answer.standing for answer in kept[3].answers}) == 3
    found = compare(kept, redecide(kept))
    assert found.identical == found.queries == 5


GATED: dict[str, Any] = {
    "rules": ("hybrid", "competence_entropy", "hard"),
    "gate": True,
    "weight_share": 0.5,
    "recording": True,
}


async def test_whom_a_gate_left_out_stays_out_and_what_decided_instead_decides_again(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    fog = {f"p{n}": vague(0.25, 0.1) for n in (1, 2, 3)}
    stage = build(policy=GATED, models={**fog, "p4": AT_RANDOM}, participants=4)
    say_examples(stage, {"p1": 100, "p2": 110, "p3": 90, "p4": 1000})
    asked = [(120, "hybrid"), (120, "competence_entropy"), (9, "hybrid"), (60, "hard")]
    asked.append((4, "competence_entropy"))
    people = ("p1", "p2", "p3", "p4")
    kept = await record(stage, tmp_path / "today.rec", people, asked)
    assert [one.result.rule for one in kept] == ["soft", "soft", None, None, None]
    assert all(one.gate for one in kept)
    again = redecide(kept)
    assert compare(kept, again).identical == 5
    assert [len(one.contributors) for one in again] == [4, 4, 3, 3, 3]
    # who is independent is no participant that is missing
    told = redecide(kept, WhatIf(deadline_ms=9_999))
    assert compare(kept, told).identical == 5
    few = redecide(kept, WhatIf(participants=frozenset({"p1", "p2", "p4"})))
    assert [one.contributors for one in few] == [("p1", "p2", "p4")] * 2 + [("p1", "p2")] * 3
    alone = redecide(kept, WhatIf(participants=frozenset({"p1", "p4"})))
    assert [one.outcome for one in alone] == ["complete"] * 2 + ["no_quorum"] * 3
    # another rule goes through windows of its own, and is gated by what they learnt
    other = redecide(kept, WhatIf(rule="hybrid"))
    assert [one.contributors for one in other] == [one.contributors for one in again]
    assert compare(kept, other).identical == 3, "soft, soft and hybrid itself"
    # with noise, even of none at all, a gate judges what was noised
    votes = noised(kept, 3, Noising(4.0), "hard", Silent())
    other = redecide(votes, WhatIf(rule="hard", answers=True))
    assert [one.contributors for one in other] == [one.contributors for one in again]
    assert np.array_equal(other[3].decision.labels, again[3].decision.labels)
