"""A participant's own examples from a `.npz` file, as its model takes them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.errors import ModelError
from fi_stream.events.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.task import Task, TensorSpec
    from fi_stream.models.port import Inputs

_AT_ONCE = 256


def load_samples(path: Path, key: str, task: Task) -> Inputs:
    """Read examples: an array [rows, *shape] for each of the task's inputs, by its name.

    Nothing is unpickled. BYTES are numpy's own bytes (`S`).

    Args:
        path: of the file.
        key: of `[model]`, which names it.
        task: whose inputs they are.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    what = f"{path}, which {key} under [model] names,"
    wanted = {spec.name: spec for spec in task.inputs}
    try:
        # opened here, because numpy leaves a damaged file open
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            named = stored if isinstance(stored, Mapping) else {}
            arrays = {name: named[name] for name in wanted if name in named}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{what} cannot be read ({error}): write it with numpy.savez, one array [rows, ...] "
            f"for each input of the task: {', '.join(wanted)}."
        ) from error
    if missing := sorted(wanted.keys() - arrays.keys()):
        raise ModelError(f"{what} has no array {missing[0]!r}, an input of the task: add it.")
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(rows) != 1 or 0 in rows:
        raise ModelError(f"{what} wants as many rows, one or more, of each input.")
    return {name: _fitting(arrays[name], spec, what) for name, spec in wanted.items()}


def some(samples: Inputs, places: NDArray[np.int64]) -> Inputs:
    """The rows at these places."""
    return {name: array[places] for name, array in samples.items()}


def in_parts(samples: Inputs) -> Iterator[Inputs]:
    """All rows in their order, so many at once as a model can be asked."""
    rows = len(next(iter(samples.values())))
    for start in range(0, rows, _AT_ONCE):
        yield {name: array[start : start + _AT_ONCE] for name, array in samples.items()}


def _fitting(array: NDArray[Any], spec: TensorSpec, what: str) -> NDArray[Any]:
    wanted = spec.datatype.numpy
    if array.shape[1:] != tuple(spec.shape):
        raise ModelError(
            f"{what} has rows of shape {list(array.shape[1:])} for input {spec.name!r}, and the "
            f"task's are {list(spec.shape)}: write it with that shape."
        )
    fits = (
        array.dtype.kind == "S"
        if spec.datatype is Datatype.BYTES
        else np.can_cast(array.dtype, wanted, "same_kind")
    )
    if not fits:
        raise ModelError(
            f"{what} has {array.dtype} for input {spec.name!r}, and the task's are "
            f"{spec.datatype}: write it with that type."
        )
    return array.astype(wanted)
