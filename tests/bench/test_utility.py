"""The bench of rules: every rule on any trace, ties shared out, errors of the same rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.utility.__main__ import main
from bench.utility.accuracy import BEST, DRAWN, credit, measure, over_seeds, paired
from bench.utility.deciding import decide, rules_for
from fi_stream.roles.traces import Trace

if TYPE_CHECKING:
    from pathlib import Path


def made_up(
    participants: int = 4, rows: int = 400, classes: int = 5, scale: float = 1.0, seed: int = 1
) -> Trace:
    """Participants that each know some classes better than others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    known = rng.dirichlet(np.full(classes, 0.5), participants)
    evidence = rng.normal(0, 1, (participants, rows, classes))
    evidence[:, np.arange(rows), labels] += 1 + 3 * known[:, labels]
    ratio = np.log(known[:, labels] * classes + 0.05) + rng.normal(0, 0.3, (participants, rows))
    return Trace("made_up_s1", scale * evidence, labels, np.rint(200 * known), ratio)


def save(trace: Trace, folder: Path) -> None:
    np.savez(
        folder / f"{trace.name}.npz",
        logits=trace.logits.astype(np.float32),
        labels=trace.labels,
        class_counts=trace.class_counts,
        log_density_ratio=trace.log_density_ratio,
    )


def test_a_tie_is_worth_a_part_of_a_right_answer() -> None:
    scores = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 2.0, 1.0], [0.0, 2.0, 2.0]])
    labels = np.array([0, 2, 1, 0])
    np.testing.assert_allclose(credit(scores, labels), [1 / 2, 1 / 3, 1.0, 0.0])


def test_the_error_is_that_of_the_differences_row_by_row() -> None:
    right, baseline = np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.5])
    difference = np.array([0.0, 1.0, 0.0, 0.5])
    mean, error = paired(right, baseline)
    assert mean == pytest.approx(0.375)
    assert error == pytest.approx(np.std(difference, ddof=1) / 2)
    assert paired(right, right) == (0.0, 0.0)
    assert paired(right[:1], baseline[:1]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("participants", "rows", "classes", "scale"),
    [(1, 30, 2, 1.0), (2, 1, 3, 1.0), (3, 250, 2, 1e4), (12, 160, 30, 1e-4), (5, 120, 4, 0.0)],
)
def test_any_trace_is_measured_with_every_rule(
    participants: int, rows: int, classes: int, scale: float
) -> None:
    trace = made_up(participants, rows, classes, scale)
    found = list(measure(trace))
    names = [one.rule for one in found]
    assert set(names) == {*rules_for(trace), DRAWN, BEST}
    assert len(names) == len(set(names))
    assert ("trimmed_mean" in names) == (participants > 2)
    for one in found:
        assert 0 <= one.accuracy <= 1
        assert np.isfinite([one.difference_to_soft, one.standard_error]).all()


def test_a_rule_learns_from_the_past_alone() -> None:
    trace = made_up(rows=400)
    for rule in rules_for(trace):
        whole = decide(rule, trace)
        np.testing.assert_array_equal(decide(rule, trace.rows(slice(0, 310)))[:300], whole[:300])


def test_traces_of_one_group_are_averaged_with_independent_errors() -> None:
    found = [one for seed in (1, 2) for one in measure(made_up(seed=seed))]
    first, second = (one for one in found if one.rule == "entropy")
    mean = next(
        one for one in over_seeds(found, [("made_up_s1", "made_up")]) if one.rule == "entropy"
    )
    assert mean.trace == "made_up"
    assert mean.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
    assert mean.standard_error == pytest.approx(
        np.hypot(first.standard_error, second.standard_error) / 2
    )


def test_the_command_writes_a_line_for_each_rule_and_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = made_up(rows=300)
    save(trace, tmp_path)
    assert main(["--traces", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {tuple(one) for one in found} == {
        ("trace", "rule", "accuracy", "difference_to_soft", "standard_error")
    }
    assert {one["rule"] for one in found} == {*rules_for(trace), DRAWN, BEST}
    (soft,) = (one for one in found if one["rule"] == "soft")
    assert soft["difference_to_soft"] == soft["standard_error"] == 0
    assert "competence_density" in capsys.readouterr().out


def test_a_bad_folder_ends_the_command_with_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere" / "found.json"
    assert main(["--traces", str(tmp_path), "--json", str(nowhere)]) == 3
    assert "there is no folder" in capsys.readouterr().err
    assert main(["--traces", str(tmp_path)]) == 3
    assert "no file *.npz" in capsys.readouterr().err
