"""An attack of one's own: its laws, and its columns in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from shown import shown
from test_utility import made_up, save

from bench.utility.__main__ import main
from bench.utility.attacks import ATTACKS, NOBODY, measure, under, with_own
from bench.utility.contract import broken_laws
from bench.utility.deciding import probabilities
from fi_stream.aggregation.guard import UNGUARDED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINE = "attacks_of_mine"
FAULTS = """

def logits(own, others):
    return np.log(others[0] + 1e-9)


def fails(own, others):
    raise RuntimeError("not today")


def later(own, others):
    return own * (1 if len(own) < 40 else 2)
"""


def honest_changed(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    others[:] = 1 / others.shape[2]
    return own.copy()


def own_changed(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    own[:] = others[0]
    return own


def transposed(own: np.ndarray, _others: np.ndarray) -> np.ndarray:
    return own.T.copy()


def single(own: np.ndarray, _others: np.ndarray) -> np.ndarray:
    return own.astype(np.float32)


def doubled(own: np.ndarray, _others: np.ndarray) -> np.ndarray:
    return 2 * own


def negative(own: np.ndarray, _others: np.ndarray) -> np.ndarray:
    said = np.zeros_like(own)
    said[:, 0], said[:, 1] = 2, -1
    return said


def infinite(own: np.ndarray, _others: np.ndarray) -> np.ndarray:
    return np.full_like(own, np.nan)


BROKEN: tuple[tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], str], ...] = (
    (honest_changed, "it changes the answers of the honest"),
    (own_changed, "it changes its own prediction"),
    (transposed, "[rows, classes]"),
    (single, "it says float32"),
    (doubled, "not on the simplex"),
    (negative, "not on the simplex"),
    (infinite, "not on the simplex"),
)


@pytest.mark.parametrize(("attack", "said"), BROKEN)
def test_each_broken_law_is_found(
    attack: Callable[[np.ndarray, np.ndarray], np.ndarray], said: str
) -> None:
    laws = broken_laws(attack)
    assert len(laws) >= 1
    assert all(said in law for law in laws)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / f"{MINE}.py").write_text(shown("rules.md", "An attack of your own") + FAULTS)
    monkeypatch.syspath_prepend(folder)


def test_the_one_that_is_shown_exchanges_the_first_two_of_the_honest() -> None:
    trace = made_up(participants=5, rows=60)
    (attack, colluding), (_, together) = list(with_own([f"{MINE}:swapped"]).values())[-2:]
    assert (colluding, together) == (False, True)
    order = np.random.default_rng(7).permutation(5)
    said = under(trace, attack, 1)
    mean = probabilities(trace.logits[order[1:]]).mean(axis=0)
    second = np.argsort(mean, axis=1)[:, -2]
    assert (said.logits[order[0]].argmax(axis=1) == second).all()
    np.testing.assert_allclose(
        np.sort(probabilities(said.logits[order[0]])), np.sort(mean), atol=1e-9
    )
    np.testing.assert_array_equal(said.logits[order[1:]], trace.logits[order[1:]])


def test_it_is_measured_alone_and_together_beside_ours() -> None:
    attacks = with_own([f"{MINE}:swapped"])
    found = list(measure(made_up(participants=5, rows=300), UNGUARDED, attacks))
    name = f"{MINE}:swapped"
    assert {one.attack for one in found} == {NOBODY, *ATTACKS, name, f"{name} colluding"}
    soft = {one.attack: one for one in found if one.rule == "soft"}
    assert (soft[name].attackers, soft[f"{name} colluding"].attackers) == (1, 2)
    assert soft[f"{name} colluding"].accuracy < soft[name].accuracy < soft[NOBODY].accuracy


def test_the_command_prints_its_columns_and_no_other_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(made_up(rows=250), tmp_path)
    assert main(["--traces", str(tmp_path), "--attack", f"{MINE}:swapped"]) == 0
    out = capsys.readouterr().out
    assert "under attack, with cap and gate" in out
    assert "swapped" in out
    assert "claims ten times the data" not in out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not_installed_anywhere:attack", "cannot be imported: ModuleNotFoundError"),
        (f"{MINE}:gone", "has no function 'gone'"),
        (f"{MINE}:fails", "RuntimeError: not today"),
        (f"{MINE}:logits", "not on the simplex"),
        (f"{MINE}:later", "not on the simplex"),  # of the trace, not of the trial
    ],
)
def test_what_cannot_be_used_ends_the_bench_with_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    save(made_up(rows=60), tmp_path)
    assert main(["--traces", str(tmp_path), "--attack", name]) == 3
    assert said in capsys.readouterr().err
