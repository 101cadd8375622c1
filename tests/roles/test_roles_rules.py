"""Every rule that reads predictions alone decides over the wire, and so does one's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stage import names_of, rows, say_examples

from fi_stream import connect
from fi_stream.aggregation.own import own_rule
from fi_stream.aggregation.replay import compare, redecide
from fi_stream.aggregation.rules import RULES
from fi_stream.cli.ask import in_words
from fi_stream.cli.findings import check_file
from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Form, NoisyMaxPolicy, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.recorder import recorder
from fi_stream.roles.recordings import read_recording
from fi_stream.roles.seat import take_seat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

MINE = "rules_for_roles:sure"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "rules_for_roles.py").write_text(
        "from fi_stream.aggregation.stacks import weighted\n"
        "def sure(predictions):\n"
        "    return weighted(predictions, predictions.max(axis=-1))\n"
        "def first(predictions):\n"
        "    return predictions[0].copy()\n"
    )
    monkeypatch.syspath_prepend(folder)
    own_rule.cache_clear()


@pytest.mark.usefixtures("_installed")
async def test_each_rule_decides_and_the_client_decides_the_same_by_itself_under_blind(
    build: Callable[..., Stage],
) -> None:
    names = (*RULES, MINE)
    stage = build(policy={"protections": ("trusted", "blind"), "rules": names})
    drawn = rows(3)
    async with (
        stage.running("agg", "p1", "p2", "p3"),
        connect(stage.file("alice")) as client,
    ):
        for name in names:
            trusted = await client.ask(drawn, deadline=5.0, rule=name)
            blind = await client.ask(drawn, deadline=5.0, rule=name, protection="blind")
            assert (trusted.outcome, blind.outcome) == ("complete", "complete")
            assert trusted.labels == names_of(drawn)
            assert blind.decided.scores.tobytes() == trusted.decided.scores.tobytes()
            assert np.allclose(trusted.decided.scores.sum(axis=1), 1)
            certified = (trusted.decided.withstands, blind.decided.withstands)
            if name in {"hard", "soft", "entropy"}:
                assert certified[0].tolist() == certified[1].tolist()
                # all three say the same: a vote withstands one that lies
                assert name != "hard" or set(certified[0].tolist()) == {1}
                said = trusted.to_dict()
                assert said["withstands"] == certified[0].tolist()
                assert (
                    said["margin"] == blind.to_dict()["margin"] == trusted.decided.margin.tolist()
                )
                assert said["contributors"] == blind.to_dict()["contributors"]
                assert sum(one["weight"] for one in said["contributors"]) == pytest.approx(1)
            else:
                assert certified == (None, None)


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("not_installed_at_all:rule", "cannot be imported"),
        ("rules_for_roles:first", "order of the participants"),
    ],
)
async def test_who_decides_does_not_start_with_a_rule_that_cannot_be_used(
    build: Callable[..., Stage], rule: str, said: str
) -> None:
    stage = build(policy={"rules": ("soft", rule)})
    with pytest.raises(ConfigError, match=said):
        async with take_seat(Role.AGGREGATOR, stage.file("agg")):
            pass
    # a participant decides nothing, and need not have it
    async with take_seat(Role.PARTICIPANT, stage.file("p1")):
        pass


async def test_trimming_that_leaves_nothing_is_refused_when_the_files_are_read(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={"rules": ("soft", "trimmed_mean")}, participants=2)
    with pytest.raises(ConfigError, match="nothing would be left"):
        async with take_seat(Role.AGGREGATOR, stage.file("agg")):
            pass
    mistakes = check_file(stage.file("agg")).mistakes
    assert any("nothing would be left" in mistake.what for mistake in mistakes)


async def test_a_bound_on_weights_where_all_weigh_the_same_is_refused_when_the_files_are_read(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={"rules": ("soft", "hard", "median"), "weight_share": 0.5})
    with pytest.raises(ConfigError, match=r"weight_share = 0\.5 bounds nothing"):
        async with take_seat(Role.AGGREGATOR, stage.file("agg")):
            pass


async def test_nobody_has_more_of_the_weight_than_the_policy_says(
    build: Callable[..., Stage],
) -> None:
    policy = {
        "rules": ("entropy", "soft"),
        "protections": ("trusted", "blind"),
        "weight_share": 0.4,
        "early_exit": True,
    }
    # p1 is sure of its second class, the others of nothing much
    stage = build(policy=policy, models={"p1": "x = 50 * x[:, [1, 0, 2]]"})
    row = np.zeros((1, *rows(1).shape[1:]), dtype=np.float32)
    row[0, 0] = 1.0
    async with (
        stage.running("agg", "p1", "p2", "p3"),
        connect(stage.file("alice")) as client,
    ):
        bounded = await client.ask(row, deadline=5.0)
        blind = await client.ask(row, deadline=5.0, protection="blind")
        soft = await client.ask(row, deadline=5.0, rule="soft")
    assert (bounded.outcome, blind.outcome) == ("complete", "complete")
    likely = np.exp([1.0, 0.0, 0.0]) / np.exp([1.0, 0.0, 0.0]).sum()
    # without the bound it had exp(0) against exp(-0.98) twice: 57 %
    expected = 0.4 * np.array([0.0, 1.0, 0.0]) + 0.6 * likely
    assert np.allclose(bounded.decided.scores[0], expected)
    assert blind.decided.scores.tobytes() == bounded.decided.scores.tobytes()
    assert bounded.decided.withstands is None
    assert soft.decided.withstands is not None


async def test_nobody_is_believed_to_be_surer_than_the_policy_says(
    build: Callable[..., Stage],
) -> None:
    policy = {
        "rules": ("soft",),
        "protections": ("trusted", "blind"),
        "confidence_cap": 0.7,
    }
    stage = build(policy=policy, models=dict.fromkeys(("p1", "p2", "p3"), "x = 50 * x[:, :3]"))
    row = np.array([[1.0, 0, 0, 0]], dtype=np.float32)
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        trusted = await client.ask(row, deadline=5.0)
        blind = await client.ask(row, deadline=5.0, protection="blind")
    assert np.allclose(trusted.decided.scores, [[0.7, 0.15, 0.15]])
    assert blind.decided.scores.tobytes() == trusted.decided.scores.tobytes()


async def test_a_cap_below_a_guess_is_refused_when_the_files_are_read(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={"rules": ("soft",), "confidence_cap": 0.3})
    with pytest.raises(ConfigError, match=r"confidence_cap = 0\.3 leaves nothing"):
        async with take_seat(Role.AGGREGATOR, stage.file("agg")):
            pass


async def test_what_an_aggregator_records_is_decided_again_to_the_bit(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    names = ("soft", "entropy", "median")
    stage = build(policy={"rules": names, "recording": True, "protections": ("trusted", "blind")})
    file, stop, drawn = tmp_path / "today.rec", asyncio.Event(), rows(2)
    async with stage.running("p1", "p2", "p3"), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_aggregator(stage.file("agg"), stop, record=file))
        async with connect(stage.file("alice")) as client:
            for name in names * 3:
                result = await client.ask(drawn, deadline=5.0, rule=name)
                assert result.outcome == "complete"
            # the client alone may open these
            await client.ask(drawn, deadline=5.0, protection="blind")
        stop.set()
    recording = read_recording(file)
    assert recording.classes == stage.federation.task.classes
    assert [one.ask.rule for one in recording.queries] == [*names * 3]
    found = compare(recording.queries, redecide(recording.queries))
    assert found.identical == found.queries == 9
    assert found.outcomes == {"complete": 9}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({}, "does not allow recording"),
        (
            {
                "recording": True,
                "form": Form.LABEL,
                "rules": ("hard",),
                "noisy_max": NoisyMaxPolicy(epsilon=2.0),
            },
            "nothing can be recorded under",
        ),
    ],
)
async def test_nothing_is_recorded_that_the_policy_does_not_allow(
    build: Callable[..., Stage], tmp_path: Path, policy: dict[str, object], said: str
) -> None:
    stage, file = build(policy=policy), tmp_path / "today.rec"
    with pytest.raises(ConfigError, match=said), recorder(file, stage.federation):
        pass
    assert not file.exists()


async def test_a_result_says_when_its_labels_withstand_fewer_than_the_policy_wants(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={"rules": ("hard", "soft", "median"), "withstand": 1})
    drawn = rows(1)
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        votes, sums, median = [
            await client.ask(drawn, deadline=5.0, rule=rule) for rule in ("hard", "soft", "median")
        ]
    assert votes.certified is True
    assert sums.certified is bool((sums.decided.withstands >= 1).all())
    assert median.certified is False
    assert median.to_dict()["certified"] is False
    assert "NOT certain against 1 lying contributors" in in_words(median)
    assert "NOT certain" not in in_words(votes)


async def test_who_learnt_from_more_counts_for_more_up_to_twice_the_median(
    build: Callable[..., Stage],
) -> None:
    policy = {
        "rules": ("competence_entropy", "entropy"),
        "protections": ("trusted", "blind", "secagg"),
        "secagg": SecaggPolicy(k_min=2),
    }
    # all are asked about cats; p1 takes each row for its second class instead, and is as sure
    models = {"p1": "x = x[:, [1, 0, 2]]"}
    stage = build(policy=policy, models=models)
    row = np.zeros((1, *rows(1).shape[1:]), dtype=np.float32)
    row[0, 0] = 4.0
    say_examples(stage, {"p1": 1000, "p2": 10, "p3": 20})
    members = ("agg", "helper", "p1", "p2", "p3")
    async with stage.running(*members), connect(stage.file("alice")) as client:
        sized = await client.ask(row, deadline=5.0)
        blind = await client.ask(row, deadline=5.0, protection="blind")
        summed = await client.ask(row, deadline=10.0, protection="secagg")
        plain = await client.ask(row, deadline=5.0, rule="entropy")
    assert {one.outcome for one in (sized, blind, summed, plain)} == {"complete"}
    likely = np.exp([4.0, 0.0, 0.0]) / np.exp([4.0, 0.0, 0.0]).sum()
    # 40 of 1000 are believed, against 10 and 20: all are equally sure
    expected = (40 * likely[[1, 0, 2]] + 30 * likely) / 70
    assert np.allclose(sized.decided.scores[0], expected)
    assert blind.decided.scores.tobytes() == sized.decided.scores.tobytes()
    assert np.allclose(summed.decided.scores[0], expected, atol=1e-3)
    assert np.allclose(plain.decided.scores[0], (likely[[1, 0, 2]] + 2 * likely) / 3)


async def test_a_rule_that_weighs_by_examples_is_refused_where_somebody_says_none(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={"rules": ("competence_entropy",)})
    say_examples(stage, {"p1": 5, "p3": 5})
    mistakes = check_file(stage.file("agg")).mistakes
    assert any("nobody says how many p2 has" in mistake.what for mistake in mistakes)
    with pytest.raises(ConfigError, match=r"write examples = \.\.\. under"):
        async with take_seat(Role.AGGREGATOR, stage.file("agg")):
            pass
