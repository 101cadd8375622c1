"""Rows from a file or standard input: .npy, .csv or JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.errors import QueryError

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.task import Task


def read_rows(source: Path | None, task: Task) -> list[Any]:
    """Read one query for each row.

    Args:
        source: a .npy array [rows, ...], a .csv with one row a line and no heading, or .json;
            JSON from standard input when None. JSON is a list of rows, each nested lists or, for
            a task of several inputs, an object with a list for each input.
        task: what the rows are for; a flat row is brought into the shape of its input.

    Raises:
        QueryError: the file cannot be read, or is none of these.
    """
    name = "standard input" if source is None else str(source)
    try:
        rows = _load(source)
    except (OSError, ValueError, EOFError) as error:
        raise QueryError(
            f"{name} cannot be read as rows: {error}. Give .npy, .csv (numbers, no heading), or "
            "JSON: a list of rows."
        ) from error
    if len(rows) == 0:
        raise QueryError(f"{name} has no rows")
    return [_shaped(row, task, f"{name}, row {number}") for number, row in enumerate(rows, 1)]


def _load(source: Path | None) -> Any:
    if source is None:
        rows = json.load(sys.stdin)
    elif source.suffix == ".npy":
        rows = np.load(source, allow_pickle=False)
    elif source.suffix == ".csv":
        rows = np.loadtxt(source, delimiter=",", ndmin=2) if _says_anything(source) else []
    else:
        rows = json.loads(source.read_text("utf-8"))
    if not isinstance(rows, list) and not (isinstance(rows, np.ndarray) and rows.ndim):
        msg = "it is not a list of rows"
        raise ValueError(msg)
    return rows


def _says_anything(source: Path) -> bool:
    # An empty file is a warning to numpy, and to us a file without rows.
    return bool(source.read_text("utf-8").strip())


def _shaped(row: Any, task: Task, where: str) -> Any:
    if isinstance(row, dict):
        return {key: _array(value, where) for key, value in row.items()}
    array = _array(row, where)
    spec = task.inputs[0]
    return array.reshape(spec.shape) if array.size == spec.elements else array


def _array(value: Any, where: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise QueryError(f"{where}: lists of unequal length") from error
    if array.dtype.kind in "US":
        texts = [str(text).encode() for text in array.ravel()]
        array = np.array(texts, dtype=object).reshape(array.shape)
    return array
