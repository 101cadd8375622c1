"""A folder of traces is read whole, or refused with what is wrong with which file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.errors import ConfigError
from fi_stream.roles.traces import read, read_folder, shuffled

if TYPE_CHECKING:
    from pathlib import Path


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(0, 3, (3, 20, 4)).astype(np.float16),
        "labels": np.sort(rng.integers(0, 4, 20)).astype(np.uint8),
        "class_counts": rng.integers(0, 50, (3, 4)).astype(np.int32),
        "log_density_ratio": rng.normal(0, 1, (3, 20)).astype(np.float16),
    }


def test_a_folder_is_read_in_order_of_name_and_shuffled_the_same_each_time(tmp_path: Path) -> None:
    for name, seed in (("b_K3_a1_s1", 1), ("b_K3_a1_s0", 0)):
        np.savez(tmp_path / f"{name}.npz", **arrays(seed))
    (tmp_path / "notes.txt").write_text("not a trace")
    first, second = read_folder(tmp_path), read_folder(tmp_path)
    assert [trace.name for trace in first] == ["b_K3_a1_s0", "b_K3_a1_s1"]
    assert {trace.group for trace in first} == {"b_K3_a1"}
    stored = arrays(0)
    assert (first[0].labels != stored["labels"]).any()
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
    plain = read(tmp_path / "b_K3_a1_s0.npz")
    np.testing.assert_array_equal(plain.logits, stored["logits"].astype(np.float64))
    np.testing.assert_array_equal(plain.sizes, stored["class_counts"].sum(axis=1))
    # Rows stay together: a row's label, logits and ratio are found in one place of the original.
    mixed = shuffled(plain)
    for row in range(20):
        (at,) = np.flatnonzero((plain.logits == mixed.logits[:, row : row + 1]).all(axis=(0, 2)))
        assert plain.labels[at] == mixed.labels[row]
        assert (plain.log_density_ratio[:, at] == mixed.log_density_ratio[:, row]).all()


BROKEN = {
    "without_labels": ("labels", None, "no array 'labels'"),
    "wrong_length": ("labels", np.zeros(19, np.uint8), r"labels is \[19\] instead of \[20\]"),
    "too_high": ("labels", np.full(20, 4), "integers from 0 to classes - 1"),
    "halves": ("labels", np.full(20, 0.5), "integers from 0 to classes - 1"),
    "nan": ("logits", np.full((3, 20, 4), np.nan), "logits holds NaN or infinity"),
    "flat": ("logits", np.zeros((3, 20)), r"logits are \[3, 20\]"),
    "one_class": ("logits", np.zeros((3, 20, 1)), "two classes or more"),
    "no_rows": ("logits", np.zeros((3, 0, 4)), r"logits are \[3, 0, 4\]"),
    "text": ("logits", np.full((3, 20, 4), "x"), "logits is of <U1"),
    "objects": ("logits", np.full((3, 20, 4), None), "allow_pickle=False"),
    "negative": ("class_counts", np.full((3, 4), -1), "counts, not negative"),
    "turned": ("log_density_ratio", np.zeros((20, 3)), r"is \[20, 3\] instead of \[3, 20\]"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_file_that_is_no_trace_is_refused_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    array, value, said = BROKEN[name]
    stored = arrays()
    del stored[array]
    if value is not None:
        stored[array] = value
    np.savez(tmp_path / "one.npz", allow_pickle=True, **stored)
    with pytest.raises(ConfigError, match=said) as refused:
        read_folder(tmp_path)
    assert "one.npz is not a trace" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive at all"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"one\.npz is not a trace"):
        read_folder(tmp_path)


def test_a_single_array_is_no_trace(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ConfigError, match="no archive of arrays"):
        read_folder(tmp_path)


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file \*.npz in it"):
        read_folder(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
