"""TOML written from plain values; what it writes reads back equal."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def dumps(content: Mapping[str, Any]) -> str:
    """Write nested tables, arrays of tables and plain values (str, bool, int, float, lists).

    Raises:
        TypeError: a value has another type: None, a date, a list that mixes tables and values.
    """
    return "\n".join(_table(content, ())).lstrip("\n") + "\n"


def value(given: Any) -> str:
    """One value as TOML spells it, on one line."""
    match given:
        case bool():
            return "true" if given else "false"
        case int():
            return str(int(given))
        case float():
            return repr(float(given)) if math.isfinite(given) else str(float(given))
        case str():
            # JSON escapes as TOML does, but for DEL, which TOML does not take as it is.
            return json.dumps(str(given), ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(value(item) for item in given)}]"
        case _:
            msg = f"a {type(given).__name__} cannot be written as TOML here"
            raise TypeError(msg)


def _table(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {k: v for k, v in content.items() if isinstance(v, dict)}
    arrays = {k: v for k, v in content.items() if _is_tables(v)}
    for key, plain in content.items():
        if key not in tables and key not in arrays:
            yield f"{_key(key)} = {value(plain)}"
    for key, table in tables.items():
        yield f"\n[{_dotted((*path, key))}]"
        yield from _table(table, (*path, key))
    for key, array in arrays.items():
        for table in array:
            yield f"\n[[{_dotted((*path, key))}]]"
            yield from _table(table, (*path, key))


def _is_tables(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(isinstance(i, dict) for i in given)


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(_key(part) for part in path)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)
