"""Rows of any origin become the one query that they mean, or are refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from members import TASK

from fi_stream.errors import QueryError
from fi_stream.federation.rows import decode_rows, encode_rows

PLAIN = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)


def layouts() -> dict[str, Any]:
    wide = np.zeros((6, 8), dtype=np.float32)
    wide[:, ::2] = PLAIN
    return {
        "transposed": PLAIN.T.copy().T,
        "strided": wide[:, ::2],
        "backwards": PLAIN[::-1].copy()[::-1],
        "fortran": np.asfortranarray(PLAIN),
        "big-endian": PLAIN.astype(">f4"),
        "doubles": PLAIN.astype(np.float64),
        "lists": PLAIN.tolist(),
        "read-only": np.frombuffer(PLAIN.tobytes(), dtype=np.float32).reshape(6, 4),
        "by name": {"x": PLAIN},
    }


@pytest.mark.parametrize("name", layouts())
def test_any_layout_is_the_same_query_as_the_contiguous_copy(name: str) -> None:
    rows, tensors = encode_rows(layouts()[name], TASK)
    assert rows == 6
    assert tensors[0].data == PLAIN.tobytes()
    decoded = decode_rows(tensors, rows, TASK)
    assert np.array_equal(decoded["x"], PLAIN)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((2, 2)), "shape"),
        (np.zeros((1, 1, 4)), "shape"),
        (np.float32(1), "shape"),
        (np.zeros((0, 4)), "at least one"),
        (np.zeros(4, dtype=complex), "holds complex"),
        (np.array(["a", "b", "c", "d"]), "holds"),
        (np.array([None] * 4), "holds object"),
        (None, "shape"),
        (np.zeros(4, dtype="M8[s]"), "holds datetime"),
        ([0, 1, [2], 3], "cannot be made an array"),
        ([0, 0, 0, np.nan], "NaN or infinity"),
        ([0, 0, 0, -np.inf], "NaN or infinity"),
        ([0, 0, 0, 1e300], "NaN or infinity"),
        ({"y": np.zeros(4)}, "the task's are"),
        ({"x": np.zeros(4), "y": np.zeros(4)}, "the task's are"),
        ({}, "the task's are"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_words(given: Any, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        encode_rows(given, TASK)
