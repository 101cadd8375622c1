"""Rows of a query: from what a client holds to named tensors, and back to a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.errors import QueryError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_array, to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.federation.task import Task, TensorSpec

Rows = Any
"""An array (of the task's only input), or a mapping of input names to arrays; one row or many."""


def encode_rows(rows: Rows, task: Task) -> tuple[int, tuple[Tensor, ...]]:
    """Check rows against the task and encode them; any memory layout and byte order will do.

    Args:
        rows: arrays of shape [rows, *input] or, for one row, [*input].
        task: what the federation answers.

    Returns:
        The number of rows, and one tensor for each input in the task's order.

    Raises:
        QueryError: an input is missing, unknown, not finite, or of the wrong shape or datatype.
    """
    named = _named(rows, task)
    arrays = [_rows_first(_array(named[spec.name], spec), spec) for spec in task.inputs]
    counts = {len(array) for array in arrays}
    if len(counts) != 1 or counts == {0}:
        raise QueryError(
            f"the inputs have {sorted(counts)} rows: give each the same number, at least one"
        )
    return counts.pop(), tuple(
        _tensor(array, spec) for array, spec in zip(arrays, task.inputs, strict=True)
    )


def decode_rows(
    tensors: Sequence[Tensor], rows: int, task: Task
) -> dict[str, NDArray[np.generic]] | Refusal:
    """The inputs of a query by name, each [rows, *input]; refused when they do not fit the task."""
    if [tensor.name for tensor in tensors] != [spec.name for spec in task.inputs]:
        return Refusal(Reason.WRONG_SHAPE, "other inputs than the task's")
    inputs: dict[str, NDArray[np.generic]] = {}
    for tensor, spec in zip(tensors, task.inputs, strict=True):
        if tensor.datatype is not spec.datatype:
            return Refusal(Reason.WRONG_DATATYPE, f"{spec.name}: {tensor.datatype}")
        if tensor.shape != (rows, *spec.shape):
            return Refusal(Reason.WRONG_SHAPE, f"{spec.name}: {list(tensor.shape)}")
        array = to_array(tensor)
        if isinstance(array, Refusal):
            return array
        inputs[spec.name] = array
    return inputs


def _named(rows: Rows, task: Task) -> Mapping[str, Any]:
    names = [spec.name for spec in task.inputs]
    if isinstance(rows, Mapping):
        if set(rows) != set(names):
            raise QueryError(f"the inputs are {sorted(rows)}, and the task's are {names}")
        return rows
    if len(names) != 1:
        raise QueryError(f"the task has {len(names)} inputs: give a mapping with the keys {names}")
    return {names[0]: rows}


def _array(given: Any, spec: TensorSpec) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError is torch's
        raise QueryError(f"{spec.name} cannot be made an array: {error}") from error


def _rows_first(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if array.shape == spec.shape:
        return array[np.newaxis]
    if array.ndim == len(spec.shape) + 1 and array.shape[1:] == spec.shape:
        return array
    raise QueryError(
        f"{spec.name} has shape {list(array.shape)}; "
        f"one row has shape {list(spec.shape)}, many rows [rows, {str(list(spec.shape))[1:]}"
    )


def _tensor(array: NDArray[Any], spec: TensorSpec) -> Tensor:
    wanted = spec.datatype.numpy
    if not np.can_cast(array.dtype, wanted, casting="same_kind"):
        raise QueryError(f"{spec.name} holds {array.dtype}, and the task wants {spec.datatype}")
    if spec.datatype is not Datatype.BYTES:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
            array = array.astype(wanted)
    tensor = to_tensor(spec.name, array)
    if isinstance(tensor, Refusal):
        raise QueryError(f"{tensor.detail}: such rows have no answer")
    return tensor
