"""A rule of one's own is imported by name, and refused if it breaks a law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.aggregation.contract import broken_laws
from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.aggregation.own import own_rule
from fi_stream.aggregation.rules import RULES, rule
from fi_stream.aggregation.stacks import weighted
from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def squared(predictions: np.ndarray) -> np.ndarray:
    return weighted(predictions, predictions.max(axis=-1))


def in_place(predictions: np.ndarray) -> np.ndarray:
    predictions *= 2
    return squared(predictions)


def transposed(predictions: np.ndarray) -> np.ndarray:
    return squared(predictions).T


def single(predictions: np.ndarray) -> np.ndarray:
    return squared(predictions).astype(np.float32)


def logs(predictions: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(predictions).sum(axis=0)


def by_chance(predictions: np.ndarray) -> np.ndarray:
    return squared(predictions) + 1e-3 * np.random.default_rng().random(predictions.shape[1:])


def first_only(predictions: np.ndarray) -> np.ndarray:
    return predictions[0].copy()


def low_numbers(predictions: np.ndarray) -> np.ndarray:
    return squared(predictions) / (1 + np.arange(predictions.shape[2]))


def of_the_batch(predictions: np.ndarray) -> np.ndarray:
    return squared(predictions) / predictions.mean(axis=1).max()


BROKEN: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "changes its input": (in_place, "it changes the predictions"),
    "wrong shape": (transposed, "[rows, classes] is wanted"),
    "wrong type": (single, "it returns float32"),
    "infinite": (logs, "not all finite"),
    "by chance": (by_chance, "does not say the same twice"),
    "prefers a participant": (first_only, "order of the participants"),
    "prefers a class": (low_numbers, "how the classes are numbered"),
    "of the batch": (of_the_batch, "with the rows beside it"),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_our_own_rules_keep_the_laws(name: str) -> None:
    assert broken_laws(RULES[name]) == []


def test_a_rule_that_keeps_them_has_nothing_said_of_it() -> None:
    assert broken_laws(squared) == []


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_each_broken_law_is_found(case: str) -> None:
    broken, said = BROKEN[case]
    assert any(said in law for law in broken_laws(broken)), broken_laws(broken)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "rules_of_mine.py").write_text(
        "import numpy as np\n"
        "from fi_stream.aggregation.stacks import weighted\n"
        "def sure(predictions):\n"
        "    return weighted(predictions, predictions.max(axis=-1))\n"
        "def bad(predictions):\n"
        "    return predictions[0].copy()\n"
        "def fails(predictions):\n"
        "    raise RuntimeError('not today')\n"
        "number = 3\n"
    )
    (tmp_path / "broken_of_mine.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    own_rule.cache_clear()
    return "rules_of_mine"


def test_a_query_is_decided_by_a_rule_that_is_named(module: str) -> None:
    answers = {"a": np.array([[0.9, 0.1]]), "b": np.array([[0.45, 0.55]])}
    (decision,) = evaluate([Gathered(bytes(32), f"{module}:sure", answers)])
    assert decision.labels.tolist() == [0]
    assert rule(f"{module}:sure") is rule(f"{module}:sure")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rules_of_mine:gone", "has no function 'gone'"),
        ("rules_of_mine:number", "has no function 'number'"),
        ("rules_of_mine:bad", "order of the participants"),
        ("rules_of_mine:fails", "RuntimeError: not today"),
        ("not_installed_anywhere:rule", "cannot be imported: ModuleNotFoundError"),
        ("broken_of_mine:rule", "cannot be imported: ZeroDivisionError"),
        (":rule", "cannot be imported"),
    ],
)
def test_what_cannot_be_used_is_refused_with_why(module: str, name: str, said: str) -> None:
    assert module
    with pytest.raises(ConfigError, match=said):
        rule(name)
