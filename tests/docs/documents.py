"""The documents as data: their sections, tables, code blocks and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    file
    for place in ("*.md", "docs/**/*.md", "topics/*.md", "workers/**/*.md")
    for file in ROOT.glob(place)
)

Row = dict[str, str]


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next heading of any level."""
    body = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)
    assert len(body) == 2, f"{len(body) - 1} headings {heading!r}"
    return re.split(r"^#+ ", body[1], flags=re.MULTILINE)[0]


def tables(text: str) -> list[list[Row]]:
    """Every table, each row as a mapping of its column names; backticks around a cell go."""
    found = []
    for block in re.findall(r"(?:^ *\|.*\|\n)+", text, flags=re.MULTILINE):
        head, _, *rows = (_cells(line) for line in block.strip().splitlines())
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def column(table: list[Row], name: str) -> list[str]:
    return [row[name] for row in table]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def marked(text: str, mark: str) -> str:
    """The code block after `<!-- run: mark -->`."""
    found = re.search(rf"<!-- run: {mark} -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, mark
    return found[1]


def anchors(text: str) -> set[str]:
    """The anchors that a reader of Markdown makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return [cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell for cell in cells]
