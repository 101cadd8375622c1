"""The bench of health and of cost: ranks, delays, and what each rule takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_utility import made_up, save

from bench.utility.__main__ import main
from bench.utility.cost import SETTLED_TOGETHER, TARGET_US, measure
from bench.utility.watching import measure as watched
from bench.utility.watching import spearman
from fi_stream.aggregation.evidence import NAMES

if TYPE_CHECKING:
    from pathlib import Path


def test_ranks_are_correlated_and_equal_values_share_theirs() -> None:
    values = np.array([3.0, 1.0, 2.0, 5.0])
    assert spearman(values, 10 * values) == pytest.approx(1.0)
    assert spearman(values, -values) == pytest.approx(-1.0)
    tied = np.array([1.0, 1.0, 2.0])
    assert spearman(tied, np.array([1.0, 2.0, 3.0])) == pytest.approx(0.866, abs=1e-3)
    assert np.isnan(spearman(np.ones(4), values))


def test_an_injected_drift_is_found_and_a_lying_majority_is_believed() -> None:
    found = watched(made_up(participants=5, rows=1500))
    assert found.rank_correlation > 0.5
    assert all(delay is not None and delay < 200 for delay in found.delays)
    assert found.false_alarms <= 1
    assert found.liars > 0.9
    assert found.honest < 0.5


@pytest.mark.parametrize("participants", [1, 2])
def test_few_participants_and_few_rows_can_be_watched(participants: int) -> None:
    found = watched(made_up(participants=participants, rows=12))
    assert found.delays == (None,) * participants


def test_no_rule_takes_more_than_is_allowed_when_queries_settle_together() -> None:
    found = {one.what: one.together for one in measure()}
    assert set(NAMES) < set(found)
    assert SETTLED_TOGETHER == 64
    # twice as much, because a test may run on a machine that does much else
    assert max(found[name] for name in NAMES) <= 2 * TARGET_US


def test_the_sections_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(made_up(rows=250), tmp_path)
    assert main(["--traces", str(tmp_path), "health"]) == 0
    assert "mean rank correlation" in capsys.readouterr().out
