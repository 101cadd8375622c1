"""docs/rules.md names every rule that there is, with what the code says of it."""

from __future__ import annotations

import re
from typing import Any

from documents import ROOT, blocks, column, section, tables, text_of

from bench.utility.contract import broken_laws as broken_laws_of_attack
from fi_stream.aggregation.contract import broken_laws
from fi_stream.aggregation.evidence import NAMES

TEXT = text_of("docs/rules.md")


def test_every_rule_has_its_line() -> None:
    (rules,) = tables(section(TEXT, "The rules"))[:1]
    assert set(column(rules, "rule")) == set(NAMES)


def test_every_rule_but_those_of_forms_is_measured() -> None:
    (measured,) = tables(section(TEXT, "What they reach"))
    expected = {name for name in NAMES if not name.startswith("tta_")}
    assert set(column(measured, "rule")) == expected | {"best_single", "hard_drawn"}


def test_every_module_that_is_named_exists() -> None:
    named = re.findall(r"`((?:\w+/)*)(\w+\.py)(?:: (\w+))?`", TEXT)
    assert len(named) > 10
    for folder, file, name in named:
        place = folder.removeprefix("fi_stream/") or "aggregation/"
        path = ROOT / "fi_stream" / place / file
        assert path.is_file(), place + file
        text = path.read_text("utf-8")
        assert not name or f"def {name}(" in text or f"class {name}" in text or name in text, name


def test_the_rule_of_your_own_that_is_shown_keeps_the_laws() -> None:
    shown, test = blocks(section(TEXT, "A rule of your own"), "python")
    scope: dict[str, object] = {}
    exec(compile(shown, "mypkg.py", "exec"), scope)  # noqa: S102 - the document's own example
    assert "broken_laws(sure) == []" in test
    rule = scope["sure"]
    assert callable(rule)
    assert broken_laws(rule) == []


def test_the_attack_of_your_own_that_is_shown_keeps_the_laws() -> None:
    shown, test = blocks(section(TEXT, "An attack of your own"), "python")
    scope: dict[str, Any] = {}
    exec(compile(shown, "mypkg.py", "exec"), scope)  # noqa: S102 - the document's own example
    assert "broken_laws(swapped) == []" in test
    assert broken_laws_of_attack(scope["swapped"]) == []
