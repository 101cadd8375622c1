"""TOML files read with the line of each key, or the one mistake that stops the reading."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fi_stream.federation.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 32 * 2**20  # a full roster of 4096 cards takes 7 MB


@dataclass(frozen=True, slots=True)
class Read:
    """The content of a file, and the line (from 1) of each key that it spells out."""

    content: dict[str, Any]
    lines: dict[str, int]


def read(file: Path) -> Read | Mistake:
    """Read one TOML file; what stops that is a mistake with its line."""
    try:
        raw = _bounded(file)
    except FileNotFoundError:
        return Mistake(file, "there is no such file; check the path")
    except OSError as error:
        return Mistake(file, f"cannot be read ({error.strerror}); check the path and its rights")
    if raw is None:
        return Mistake(file, f"is larger than {_MOST_BYTES} bytes; this is no file of ours")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Mistake(file, "is not UTF-8 text; save it as UTF-8", line=line)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, line = _syntax(str(error), text)
        return Mistake(file, f"is not valid TOML: {what}", line=line)
    except RecursionError:
        return Mistake(file, "nests too deeply; this is no file of ours")
    return Read(content, key_lines(text))


def key_lines(text: str) -> dict[str, int]:
    """The line of each table header and each key at the start of a line, by its spelling.

    A help for messages, not a parser: what looks like a key inside a text of several lines counts.
    """
    lines: dict[str, int] = {}
    counts: Counter[str] = Counter()
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = _join(header[2])
            if header[1] == "[[":
                lines.setdefault(table, number)
                counts[table] += 1
                table = f"{table}[{counts[table] - 1}]"
            elif "." in table:
                table = _inside(table, counts)
            lines.setdefault(table, number)
        elif pair := _PAIR.match(line):
            name = _join(pair[1])
            lines.setdefault(f"{table}.{name}" if table else name, number)
    return lines


_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_PAIR = re.compile(rf"\s*({_DOTTED})\s*=")


def _bounded(file: Path) -> bytes | None:
    with file.open("rb") as opened:
        raw = opened.read(_MOST_BYTES + 1)
    return raw if len(raw) <= _MOST_BYTES else None


def _syntax(message: str, text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", message, re.DOTALL)
    if not found:
        return message.partition(" (at ")[0], text.rstrip("\n").count("\n") + 1
    return found[1], int(found[2])


def _join(dotted: str) -> str:
    return ".".join(part.strip("\"'") for part in re.findall(_PART, dotted))


def _inside(table: str, counts: Counter[str]) -> str:
    """`[a.b]` after `[[a]]` belongs to the latest item of a."""
    head, dot, tail = table.partition(".")
    return f"{head}[{counts[head] - 1}]{dot}{tail}" if counts[head] else table
