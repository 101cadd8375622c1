"""Recorded predictions of trained participants: one file, or a folder of them (DESIGN 15)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SHUFFLE_SEED = 20_260_311
"""Some traces stand in class order. Rows are shuffled so that a window of the past is a sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What each participant's model said of each query of a test set.

    `logits` is [participants, rows, classes], `labels` [rows], `class_counts` [participants,
    classes] training examples, `log_density_ratio` [participants, rows] each participant's own
    estimate of log p(own training features) / p(past unlabelled queries).
    """

    name: str
    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_counts: NDArray[np.float64]
    log_density_ratio: NDArray[np.float64]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Training examples of each participant: [participants]."""
        return np.asarray(self.class_counts.sum(axis=1), dtype=np.float64)

    @property
    def group(self) -> str:
        """The name without its seed: traces that differ in nothing else are averaged."""
        stem, mark, seed = self.name.rpartition("_s")
        return stem if mark and seed.isdigit() else self.name

    def rows(self, chosen: NDArray[np.int64] | slice) -> Trace:
        """The same participants on these rows, in this order."""
        return Trace(
            self.name,
            self.logits[:, chosen],
            self.labels[chosen],
            self.class_counts,
            self.log_density_ratio[:, chosen],
        )


def read_folder(folder: Path) -> list[Trace]:
    """Every `*.npz` of a folder as a shuffled trace, in order of name.

    Raises:
        ConfigError: there is none, or one is no trace.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        missing = "no file *.npz in it" if folder.is_dir() else "no such folder"
        raise ConfigError(f"{folder}: {missing}. Give a folder of traces (DESIGN 15).")
    return [shuffled(read(file)) for file in files]


def read(file: Path) -> Trace:
    """One trace, its rows as they stand in the file.

    Raises:
        ConfigError: it is no trace; says what is wrong with which array.
    """
    try:
        if file.is_file() and not zipfile.is_zipfile(file):
            raise ConfigError(f"{file} is not a trace: it is no archive of arrays (*.npz).")
        # opened here, because numpy leaves a damaged archive open
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _WANTED if name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} is not a trace: {error}") from error
    wrong = _wrong(arrays)
    if wrong is not None:
        raise ConfigError(f"{file} is not a trace: {wrong}. See DESIGN 15.")
    return Trace(
        file.stem,
        arrays["logits"].astype(np.float64),
        arrays["labels"].astype(np.int64),
        arrays["class_counts"].astype(np.float64),
        arrays["log_density_ratio"].astype(np.float64),
    )


def shuffled(trace: Trace) -> Trace:
    """The same rows in an order that depends on nothing but their number."""
    order = np.random.default_rng(SHUFFLE_SEED).permutation(trace.labels.size)
    return trace.rows(order)


_WANTED = {
    "logits": "[participants, rows, classes] finite floats",
    "labels": "[rows] integers from 0 to classes - 1",
    "class_counts": "[participants, classes] counts, not negative",
    "log_density_ratio": "[participants, rows] finite floats",
}


def _wrong(arrays: Mapping[str, NDArray[np.generic]]) -> str | None:
    """What is wrong with the arrays of a file, first fault first; None when nothing is."""
    for name, wanted in _WANTED.items():
        if name not in arrays:
            return f"no array {name!r}: {wanted} is wanted"
        if arrays[name].dtype.kind not in "fiu":
            return f"{name} is of {arrays[name].dtype}: {wanted} is wanted"
        if not np.isfinite(arrays[name]).all():
            return f"{name} holds NaN or infinity: {wanted} is wanted"
    logits = arrays["logits"]
    if logits.ndim != 3 or min(logits.shape) < 1 or logits.shape[2] < 2:
        return (
            f"logits are {list(logits.shape)}: {_WANTED['logits']} is wanted, two classes or more"
        )
    participants, rows, classes = logits.shape
    shapes = {
        "labels": (rows,),
        "class_counts": (participants, classes),
        "log_density_ratio": (participants, rows),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            return f"{name} is {list(arrays[name].shape)} instead of {list(shape)}, as logits say"
    labels = arrays["labels"].astype(np.float64)
    if (labels != np.rint(labels)).any() or labels.min() < 0 or labels.max() >= classes:
        return f"labels must be {_WANTED['labels']}"
    counts = arrays["class_counts"].astype(np.float64)
    if counts.min() < 0:
        return f"class_counts must be {_WANTED['class_counts']}"
    return None
