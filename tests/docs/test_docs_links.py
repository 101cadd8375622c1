from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
import typer
from documents import DOCUMENTS, ROOT, anchors, blocks, text_of

from fi_stream.cli.app import VERBS, app

if TYPE_CHECKING:
    from pathlib import Path

documents = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT))
)


@documents
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{document.name}: {target}"


@documents
def test_every_command_that_is_named_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    named = re.findall(r"`fi-stream ([^`]*)`", text)
    for block in blocks(text, "sh"):
        named += re.findall(r"(?:^|\| |; do )fi-stream ([^#\n&;]*)", block, flags=re.MULTILINE)
    for words in named:
        _check(shlex.split(words), where=document.name)


@documents
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    makefile = text_of("Makefile")
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    text = document.read_text("utf-8")
    for words in re.findall(r"(?:`|^)make ([^`#\n]*)", text, flags=re.MULTILINE):
        for word in shlex.split(words):
            name = word.partition("=")[0]
            assert word in targets or f"$({name})" in makefile, f"{document.name}: make {words}"


def test_every_decision_is_listed_and_has_its_four_parts() -> None:
    files = sorted(file for file in (ROOT / "docs/decisions").glob("*.md") if file.stem != "README")
    assert [int(file.name[:3]) for file in files] == list(range(1, len(files) + 1))
    listed = text_of("docs/decisions/README.md")
    for file in files:
        text = file.read_text("utf-8")
        number, title = text.splitlines()[0].removeprefix("# ").split(". ", 1)
        assert f"{number}. [{title}]({file.name})" in listed
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, flags=re.MULTILINE)
        assert parts == ["Context", "Choice", "Rejected", "Consequence"], file.name


def _check(words: list[str], where: str) -> None:
    """Whether the command line knows this verb and these options; placeholders may stand in."""
    said = f"{where}: fi-stream {' '.join(words)}"
    assert words, said
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version"), said
        return
    assert words[0] in VERBS, said
    command = typer.main.get_command(app(words[0]))
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        command = command if inner is None else inner
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
    assert given <= known, said
