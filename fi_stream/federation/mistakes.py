"""What is wrong in a configuration file: where, what, and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pydantic import ValidationError

Key = tuple[str | int, ...]
"""A place in a file: names of tables and keys, numbers of items."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to put right; `line` counts from 1, and is None where no line can be named."""

    file: Path
    what: str
    key: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return f"{place}: {self.key}: {self.what}" if self.key else f"{place}: {self.what}"


def located(mistakes: Iterable[Mistake], file: Path, lines: dict[str, int]) -> list[Mistake]:
    """Give each mistake of `file` the line of its key, where one is known (`reading.key_lines`)."""
    return [
        replace(m, line=_line(m.key, lines)) if m.file == file and m.line is None else m
        for m in mistakes
    ]


def as_error(mistakes: Sequence[Mistake]) -> ConfigError:
    """All mistakes of one reading as one exception, a line each."""
    if len(mistakes) == 1:
        return ConfigError(str(mistakes[0]))
    return ConfigError("\n".join([f"{len(mistakes)} mistakes", *(f"  {m}" for m in mistakes)]))


def from_validation(
    error: ValidationError, model: type[BaseModel], file: Path, lines: dict[str, int]
) -> list[Mistake]:
    """Say each of pydantic's findings in our words; no value that was read is repeated.

    Args:
        error: what pydantic found.
        model: the class that was asked for: its field names are suggested for unknown keys.
        file: named in each mistake.
        lines: the line of each key that the file spells out (see `reading.key_lines`).
    """
    mistakes: list[Mistake] = []
    for finding in error.errors(include_url=False, include_input=False):
        for key, what in _said(finding["type"], finding["loc"], finding, model):
            mistakes.append(Mistake(file, what, spell(key)))
    return located(mistakes, file, lines)


def spell(key: Key) -> str:
    """A key as people write it: `task.inputs[0].shape`."""
    spelt = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return spelt.removeprefix(".")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word that nobody knows: the one that was probably meant, else all."""
    choices = sorted(known)
    close = get_close_matches(word, choices, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(choices)}"


def _said(kind: str, loc: Key, finding: Any, model: type[BaseModel]) -> list[tuple[Key, str]]:
    key = loc[1:] if loc[:1] == ("roster",) else loc  # the file has the roster at its top level
    context = finding.get("ctx", {})
    match kind:
        case "missing":
            return [(key, "is missing; add it")]
        case "extra_forbidden":
            known = _fields_at(model, loc[:-1])
            return [(key, f"is not a key of ours; {nearest(str(loc[-1]), known)}")]
        case "enum" | "literal_error":
            return [(key, f"write {context['expected']}")]
        case "string_pattern_mismatch":
            return [(key, _PATTERNS.get(context["pattern"], f"must match {context['pattern']}"))]
        case "value_error":
            return [_placed(key, line) for line in str(context["error"]).split("\n")]
        case _:
            what = finding["msg"].replace(" after validation", "")
            return [(key, re.sub(r"^(Input|Value|[A-Z]\w+) should ", "should ", what))]


_NAME = "use lower case letters, digits, dots, dashes; 64 at most, no dot or dash at the ends"
_PATTERNS = {
    r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$": _NAME,
    r"^[\w.]+:[A-Za-z_]\w*$": 'write "module:callable"',
    r"^[0-9a-f]{64}$": "write the 64 hex digits that `sha256sum FILE` prints",
}


def _placed(key: Key, line: str) -> tuple[Key, str]:
    """Take the key off the front of a validator's message (see `settings.refuse`)."""
    found = re.match(r"([\w.]+): (.*)", line)
    if not found:
        return key, line
    return (*key, *found[1].split(".")), found[2]


def _line(key: str, lines: dict[str, int]) -> int | None:
    """The line of a key, or of the nearest table or list around it."""
    while key and key not in lines:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return lines.get(key)


def _fields_at(model: type[BaseModel], loc: Key) -> set[str]:
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    fields = set(model.model_fields)
    if "roster" in fields:
        fields |= {"version", "revoked", "members"}
        fields -= {"roster"}
    return fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside `X | None`, `tuple[X, ...]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for inner in get_args(annotation) if (m := _model_in(inner))), None)
