"""Rows from files and standard input."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from members import TASK

from fi_stream.cli.rows import read_rows
from fi_stream.errors import QueryError
from fi_stream.events.tensors import Datatype
from fi_stream.federation.rows import encode_rows
from fi_stream.federation.task import Task, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
IMAGES = Task(
    kind="multiclass",
    classes=("a", "b"),
    inputs=(TensorSpec(name="image", datatype=Datatype.FP32, shape=(1, 2, 2)),),
)
TEXTS = Task(
    kind="multiclass",
    classes=("a", "b"),
    inputs=(TensorSpec(name="text", datatype=Datatype.BYTES, shape=(1,)),),
)
TWO = Task(
    kind="multiclass",
    classes=("a", "b"),
    inputs=(
        TensorSpec(name="x", datatype=Datatype.FP32, shape=(2,)),
        TensorSpec(name="n", datatype=Datatype.INT64, shape=(1,)),
    ),
)


def written(directory: Path, kind: str, rows: Any = ROWS) -> Path:
    file = directory / f"rows.{kind}"
    if kind == "npy":
        np.save(file, rows)
    elif kind == "csv":
        np.savetxt(file, rows, delimiter=",")
    else:
        file.write_text(str(np.asarray(rows).tolist()))
    return file


@pytest.mark.parametrize("kind", ["npy", "csv", "json"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    queries = read_rows(written(tmp_path, kind), TASK)
    assert np.array_equal(np.stack(queries), ROWS)
    images = read_rows(written(tmp_path, kind), IMAGES)
    assert [image.shape for image in images] == [(1, 2, 2)] * 2


def test_json_comes_from_standard_input_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("[[1, 2, 3, 4]]"))
    [row] = read_rows(None, TASK)
    assert row.tolist() == [1, 2, 3, 4]


def test_text_and_named_inputs_become_queries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('["größe", ["b"]]'))
    assert [row.tolist() for row in read_rows(None, TEXTS)] == [["größe".encode()], [b"b"]]
    file = tmp_path / "rows.json"
    file.write_text('[{"x": [1, 2], "n": [3]}]')
    [row] = read_rows(file, TWO)
    count, tensors = encode_rows(row, TWO)
    assert (count, [tensor.name for tensor in tensors]) == (1, ["x", "n"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.npy", b"", "cannot be read as rows"),
        ("rows.npy", b"\x93NUMPY", "cannot be read as rows"),
        ("rows.npy", b"cos\nsystem\n(S'true'\ntR.", "cannot be read as rows"),
        ("rows.csv", b"", "has no rows"),
        ("rows.csv", b"a,b,c,d\n1,2,3,4\n", "cannot be read as rows"),
        ("rows.csv", b"1,2\n1,2,3\n", "cannot be read as rows"),
        ("rows.json", b"", "cannot be read as rows"),
        ("rows.json", b"\xff", "cannot be read as rows"),
        ("rows.json", b"7", "not a list of rows"),
        ("rows.json", b'{"x": 1}', "not a list of rows"),
        ("rows.json", b"[]", "has no rows"),
        ("rows.json", b"[[1, [2], 3, 4]]", "row 1: lists of unequal length"),
        ("absent.json", None, "cannot be read as rows"),
    ],
)
def test_what_is_no_rows_is_refused_with_its_name(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QueryError, match=says) as refused:
        read_rows(file, TASK)
    assert name in str(refused.value)


def test_a_single_number_is_no_list_of_rows(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="not a list of rows"):
        read_rows(written(tmp_path, "npy", np.float32(1)), TASK)
