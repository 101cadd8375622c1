"""What is learnt from past queries decides the next ones over the wire, and shows on `/metrics`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pages import port_of, with_port
from rosters import publish
from stage import ODD, RAISES, names_of, odd, rows
from test_health_role import numbers
from test_roles_own_weights import PARTICIPANTS, RULES, learnt, prepared
from test_roles_rules import say_examples

from fi_stream import connect
from fi_stream.aggregation.competence import density_standing
from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.cli.ask import in_words
from fi_stream.events.tensors import to_array
from fi_stream.federation.changes import without_member
from fi_stream.roles import vitals
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.recordings import read_recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

    from fi_stream.events.recording import Recorded

EVERYONE = ("agg", "p1", "p2", "p3", "p4")
BOTH = ("trusted", "blind")
AT_RANDOM = "x = 40 * np.eye(3)[np.random.default_rng(7).integers(0, 3, len(x))]"
"""A class that has nothing to do with the row, and sure of it."""

CONSTANT = "x = np.tile([9.0, 0.0, 0.0], (len(x), 1))"
VAGUE = "x = {part} * x + {more} * np.random.default_rng(len(x)).normal(0, 1, x.shape)"


def vague(part: float, more: float) -> str:
    """A model that sees its rows through a fog, each in its own way."""
    return VAGUE.format(part=part, more=more)


def right(labels: list[str] | None, drawn: Any) -> float:
    assert labels is not None
    return float(np.mean(np.array(labels) == np.array(names_of(drawn))))


def predictions(one: Recorded) -> dict[str, Any]:
    return {each.member: np.asarray(to_array(each.prediction)) for each in one.answers}


async def test_spectral_decides_as_the_rule_does_on_the_same_past_and_a_replay_can_do_it_again(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = build(
        policy={"rules": ("spectral", "hybrid"), "recording": True},
        models={"p1": vague(0.2, 1.0), "p3": vague(0.6, 0.5)},
    )
    file, stop = tmp_path / "today.rec", asyncio.Event()
    results = []
    async with stage.running("p1", "p2", "p3"), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_aggregator(stage.file("agg"), stop, record=file))
        async with connect(stage.file("alice")) as client:
            for number, count in enumerate([60, 60, 40, 7]):
                rule = ("spectral", "hybrid")[number % 2]
                results.append(await client.ask(rows(count, number), deadline=5.0, rule=rule))
        stop.set()
    assert {one.outcome for one in results} == {"complete"}
    assert {one.decided_by for one in results} == {None}
    kept = read_recording(file).queries
    said = [predictions(one) for one in kept]
    members = sorted(said[0])
    sure = np.concatenate(
        [confidences(np.stack([one[m] for m in members])) for one in said], axis=1
    )
    for at, before in ((0, 0), (1, 0), (2, 100), (3, 150)):
        weights = np.ones(3) if before == 0 else spectral_weights(sure[:, :before])
        standing = dict(zip(members, weights.tolist(), strict=True))
        assert {each.member: each.standing for each in kept[at].answers} == standing
        one = Gathered(kept[at].digest, kept[at].ask.rule, said[at], standing=standing)
        (expected,) = evaluate([one])
        assert results[at].decided.scores.tobytes() == expected.scores.tobytes()
    assert len(set(standing.values())) == 3


async def test_the_standing_of_density_is_one_over_the_mean_of_what_a_client_was_answered(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = prepared(build, {"recording": True})
    file, stop = tmp_path / "today.rec", asyncio.Event()
    async with stage.running("helper", "p1", "p2", "p3"), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_aggregator(stage.file("agg"), stop, record=file))
        async with connect(stage.file("alice")) as client:
            results = [await client.ask(rows(100, 1), deadline=10.0)]
            await learnt(stage, "alice")
            for count, rule in ((130, RULES[0]), (60, RULES[1]), (5, RULES[0])):
                results.append(await client.ask(rows(count, 2), deadline=10.0, rule=rule))
        stop.set()
    assert {one.outcome for one in results} == {"complete"}
    kept = read_recording(file).queries
    density = [one for one in kept if one.ask.rule == "competence_density"]
    own = [{each.member: np.asarray(to_array(each.own)) for each in one.answers} for one in density]
    # of the last whole block: 50 of the 60 rows under another rule among them, which do not count
    past = np.stack([np.concatenate([one[m] for one in own[:2]]) for m in PARTICIPANTS])
    expected = dict(zip(PARTICIPANTS, density_standing(past).tolist(), strict=True))
    assert {each.member: each.standing for each in density[2].answers} == expected
    assert len(set(expected.values())) == 3


@pytest.mark.parametrize("protection", BOTH)
async def test_who_answers_at_random_and_claims_ten_times_the_data_is_left_out_once_judged(
    build: Callable[..., Stage], protection: str
) -> None:
    """And before that it is one of four that count the same, however large it says it is."""
    policy = {
        "rules": ("competence_entropy", "hard"),
        "protections": BOTH,
        "gate": True,
        "quorum": 3,
        "early_exit": True,
    }
    # the others are unsure: a sure one that is believed decides alone
    fog = {f"p{n}": vague(0.25, 0.1) for n in (1, 2, 3)}
    stage = build(policy=policy, models={**fog, "p4": AT_RANDOM}, participants=4)
    say_examples(stage, {"p1": 100, "p2": 110, "p3": 90, "p4": 1000})
    drawn = rows(120)
    how = {"deadline": 5.0, "protection": protection}
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = [await client.ask(each, **how) for each in (drawn, rows(120, 1))]
        votes = await client.ask(drawn, rule="hard", **how)
        judged = await client.ask(drawn, **how)
        # each decides by what it saw itself
        other = next(one for one in BOTH if one != protection)
        unjudged = await client.ask(drawn, deadline=5.0, protection=other)
    for one in (*first, unjudged):
        assert (one.outcome, one.decided_by, one.missing) == ("complete", "soft", {})
        assert one.to_dict()["decided_by"] == "soft"
        assert "by soft: somebody is not judged yet" in in_words(one)
    for one in (votes, judged):
        assert (one.outcome, one.decided_by) == ("complete", None)
        assert one.missing == {"p4": "independent"}
        assert [who.member for who in one.contributors] == ["p1", "p2", "p3"]
    assert judged.to_dict()["decided_by"] == "competence_entropy"
    assert "p4: independent" in in_words(judged)
    assert right(judged.labels, drawn) > right(first[0].labels, drawn) + 0.1
    assert right(judged.labels, drawn) > 0.9


@pytest.mark.parametrize(
    "policy",
    [{"rules": ("hard",), "gate": True}, {"rules": ("entropy",), "weight_share": 0.5}],
)
async def test_nothing_is_decided_early_that_the_missing_might_change(
    build: Callable[..., Stage], policy: dict[str, Any]
) -> None:
    late = ODD + "time.sleep(1.0)"
    stage = build(policy={**policy, "early_exit": True}, models={"p4": late}, participants=4)
    # so sure that without gate and share two would be enough
    sure = odd(1)
    sure[0, :3] = (40.0, 0.0, 0.0)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(sure, deadline=10.0)
    assert result.outcome == "complete"
    assert len(result.contributors) == 4


async def test_a_member_that_leaves_is_shown_no_more(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "PAUSE", 0.05)
    stage = build()
    with_port(stage, "agg")
    following = without_member(stage.federation, "p3", revoked=False)
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        port = port_of(stage, "agg")
        await client.ask(rows(60), deadline=5.0)
        await shown_of(port, {"p1", "p2", "p3"})
        await publish(stage, following)
        await shown_of(port, {"p1", "p2"})


async def shown_of(port: int, members: set[str]) -> dict[str, float]:
    """All numbers, as soon as these participants have theirs and no other has."""
    ends = time.monotonic() + 15
    while True:
        shown = await numbers(port)
        parts = [name.partition("/") for name in shown]
        told = {member for name, _, member in parts if name == "participant_abstained"}
        if told == members:
            return shown
        assert time.monotonic() < ends, shown
        await asyncio.sleep(0.05)


async def test_too_few_that_count_are_no_quorum(build: Callable[..., Stage]) -> None:
    policy = {"rules": ("soft",), "gate": True, "quorum": 4}
    stage = build(policy=policy, models={"p4": AT_RANDOM}, participants=4)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = await client.ask(rows(240), deadline=5.0)
        judged = await client.ask(rows(5), deadline=5.0)
    assert first.outcome == "complete"
    assert (judged.outcome, judged.labels) == ("no_quorum", None)
    assert judged.missing == {"p4": "independent"}


async def test_an_aggregator_shows_how_each_participant_does(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "PAUSE", 0.05)
    stage = build(models={"p3": CONSTANT, "p4": RAISES}, participants=5)
    with_port(stage, "agg")
    async with stage.running(*EVERYONE, "p5"), connect(stage.file("alice")) as client:
        port = port_of(stage, "agg")
        assert "participant_accuracy/p1" not in await numbers(port)
        await client.ask(odd(300), deadline=5.0)
        shown = await shown_of(port, {"p1", "p2", "p3", "p4", "p5"})
    assert shown["participant_accuracy/p1"] > 0.9
    assert shown["participant_overconfidence/p3"] > 0.4, "it is sure of one class"
    assert abs(shown["participant_overconfidence/p1"]) < 0.2
    assert shown["participant_abstained/p1"] == 0
    assert "participant_accuracy/p4" not in shown, "it said nothing that would tell"
    assert shown["participant_drifting/p1"] == 0
