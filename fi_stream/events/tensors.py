"""Named tensors: an Open Inference Protocol datatype, a shape, little-endian bytes, rows first.

Sizes are checked against the bytes before anything is allocated (DESIGN 5).
"""

from __future__ import annotations

import struct
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Le, Len
from pydantic import Field, StringConstraints

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Datatype(StrEnum):
    """Element types of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The little-endian numpy type; `object` for BYTES."""
        return _NUMPY[self]


_NUMPY: dict[Datatype, np.dtype[np.generic]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype("<u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("<i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype(object),
}
_DATATYPE = {(d.kind, d.itemsize): name for name, d in _NUMPY.items()}

_Axis = Annotated[int, Ge(0), Le(2**31 - 1)]
_MOST_AXES = 8
_MOST_ELEMENTS = 2**31
"""Of all axes but the empty ones: numpy has no array of shape (0, 2**31, 2**31) either."""


class Tensor(Value):
    """One named tensor as it travels; its content shows in no repr, and so in no log or error."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    datatype: Annotated[Datatype, Field(strict=False)]
    shape: Annotated[tuple[_Axis, ...], Len(1, _MOST_AXES)]
    data: Annotated[bytes, Field(repr=False)]


def to_tensor(name: str, array: NDArray[np.generic]) -> Tensor | Refusal:
    """Encode an array of any layout or byte order; the bytes depend on its values alone.

    Returns:
        A refusal `wrong_datatype` for types that the protocol has no name for (complex, dates,
        str), `not_finite` for NaN and infinity, `wrong_shape` for an array without axes, or with
        more or longer ones than the protocol has.
    """
    if array.ndim == 0:
        return Refusal(Reason.WRONG_SHAPE, f"{name}: a single number has no rows")
    if array.ndim > _MOST_AXES or _too_large(array.shape):
        return Refusal(Reason.WRONG_SHAPE, f"{name}: shape {list(array.shape)}")
    if array.dtype == object:
        return _bytes_tensor(name, array)
    datatype = _DATATYPE.get((array.dtype.kind, array.dtype.itemsize))
    if datatype is None:
        return Refusal(Reason.WRONG_DATATYPE, f"{name}: {array.dtype} has no datatype on the wire")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return Refusal(Reason.NOT_FINITE, f"{name} holds NaN or infinity")
    data = np.ascontiguousarray(array, dtype=datatype.numpy).tobytes()
    return Tensor(name=name, datatype=datatype, shape=array.shape, data=data)


def to_array(tensor: Tensor) -> NDArray[np.generic] | Refusal:
    """Decode a tensor; the array is read-only and shares the event's bytes (but for BYTES).

    Returns:
        A refusal `wrong_shape` when shape and bytes disagree, `not_finite` for NaN and infinity,
        `malformed` for a BOOL that is neither 0 nor 1 or a BYTES element that overruns.
    """
    if _too_large(tensor.shape):
        return Refusal(Reason.WRONG_SHAPE, f"{tensor.name}: shape {list(tensor.shape)}")
    count = prod(tensor.shape)
    if tensor.datatype is Datatype.BYTES:
        return _bytes_array(tensor, count)
    dtype = tensor.datatype.numpy
    if count * dtype.itemsize != len(tensor.data):
        return Refusal(
            Reason.WRONG_SHAPE,
            f"{tensor.name}: shape {list(tensor.shape)} of {tensor.datatype} needs "
            f"{count * dtype.itemsize} bytes, {len(tensor.data)} came",
        )
    array = np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        return Refusal(Reason.NOT_FINITE, f"{tensor.name} holds NaN or infinity")
    if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        return Refusal(Reason.MALFORMED, f"{tensor.name}: a BOOL is 0 or 1")
    return array


def _too_large(shape: tuple[int, ...]) -> bool:
    return prod(filter(None, shape)) >= _MOST_ELEMENTS


def _bytes_tensor(name: str, array: NDArray[np.generic]) -> Tensor | Refusal:
    parts: list[bytes] = []
    for element in array.ravel(order="C").tolist():
        if not isinstance(element, bytes):
            return Refusal(Reason.WRONG_DATATYPE, f"{name}: an object array must hold bytes only")
        parts += (struct.pack("<I", len(element)), element)
    return Tensor(name=name, datatype=Datatype.BYTES, shape=array.shape, data=b"".join(parts))


def _bytes_array(tensor: Tensor, count: int) -> NDArray[np.generic] | Refusal:
    if count * 4 > len(tensor.data):
        return Refusal(Reason.WRONG_SHAPE, f"{tensor.name}: fewer bytes than elements need")
    elements: list[bytes] = []
    at = 0
    for _ in range(count):
        end = at + 4
        if end <= len(tensor.data):
            end += struct.unpack_from("<I", tensor.data, at)[0]
        if end > len(tensor.data):
            return Refusal(Reason.MALFORMED, f"{tensor.name}: an element overruns the tensor")
        elements.append(tensor.data[at + 4 : end])
        at = end
    if at != len(tensor.data):
        return Refusal(Reason.WRONG_SHAPE, f"{tensor.name}: {len(tensor.data) - at} bytes too many")
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array.reshape(tensor.shape)
