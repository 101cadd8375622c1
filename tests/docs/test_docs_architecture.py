from __future__ import annotations

import ast
import re
import tomllib
from typing import TYPE_CHECKING

from documents import ROOT, column, section, tables, text_of

if TYPE_CHECKING:
    from pathlib import Path

LIBRARY = ROOT / "fi_stream"
TEXT = text_of("docs/architecture.md")


def test_every_module_and_name_that_the_walk_mentions_exists() -> None:
    mentioned = re.findall(r"`((?:[a-z_]+/)?[a-z_]+\.py)(?:: ([A-Za-z_.]+))?`", TEXT)
    assert len(mentioned) > 20
    for place, name in mentioned:
        file = LIBRARY / place
        assert file.is_file(), place
        if name:
            assert name in _names(file), f"{place}: {name}"


def test_every_folder_has_its_line_and_stands_in_its_layer() -> None:
    layers = [re.findall(r"(\w+)(?:/|\.py)", row["folder"]) for row in tables(TEXT)[1]]
    project = tomllib.loads(text_of("pyproject.toml"))
    contract = next(
        c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"
    )
    expected = [
        {name.strip().removeprefix("fi_stream.") for name in re.split(r"[|:]", layer)}
        for layer in contract["layers"]
    ]
    assert [set(layer) for layer in layers] == expected
    folders = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert folders <= {name for layer in layers for name in layer}


def test_the_gate_refuses_for_the_reasons_that_the_walk_gives() -> None:
    gate = next(table for table in tables(section(TEXT, "3. The participant lets it in")))
    said = set(re.findall(r"`(\w+)`", "".join(column(gate, "refused as"))))
    said |= {row["refused as"] for row in gate if row["refused as"].isidentifier()}
    source = "".join((LIBRARY / f"{name}.py").read_text("utf-8") for name in _GATE)
    used = {name.lower() for name in re.findall(r"Reason\.([A-Z_]+)", source)}
    # Opening, and what is within another event, is a later step; a second roster is no event.
    assert said == used - {"decryption_failed", "second_roster", "wrong_query"}


_GATE = (
    "sealing/gate",
    "sealing/waiting",
    "events/codec",
    "events/envelope",
    "federation/rosters",
)


def _names(file: Path) -> set[str]:
    """The functions and classes of a module, and `Class.method` for their methods."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names
