"""A tensor's bytes depend on its values alone, and its sizes are checked before it is made."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_array, to_tensor

NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
shapes = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def elements(datatype: Datatype) -> st.SearchStrategy[object] | None:
    if datatype.numpy.kind != "f":
        return None
    width = 8 * datatype.numpy.itemsize
    return st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]


@st.composite
def numbers(draw: st.DrawFn) -> np.ndarray:
    datatype = draw(st.sampled_from(NUMBERS))
    return draw(arrays(datatype.numpy, shapes, elements=elements(datatype)))


def encoded(array: np.ndarray) -> Tensor:
    tensor = to_tensor("x", array)
    assert isinstance(tensor, Tensor), tensor
    return tensor


def tensor(datatype: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor.model_validate({"name": "x", "datatype": datatype, "shape": shape, "data": data})


def reason(of: object) -> Reason:
    assert isinstance(of, Refusal), of
    return of.reason


@given(array=numbers())
@settings(deadline=None)
def test_every_datatype_reads_back_as_it_was(array: np.ndarray) -> None:
    back = to_array(encoded(array))
    assert not isinstance(back, Refusal)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("datatype", NUMBERS)
def test_a_datatype_has_its_own_name_on_the_wire(datatype: Datatype) -> None:
    sent = encoded(np.ones((2, 3), datatype.numpy))
    assert sent.datatype is datatype
    assert len(sent.data) == 6 * datatype.numpy.itemsize


@given(array=numbers(), data=st.data())
@settings(deadline=None)
def test_layout_and_byte_order_change_no_byte(array: np.ndarray, data: st.DataObject) -> None:
    expected = encoded(array)
    spaced = np.zeros([2 * side for side in array.shape], array.dtype)
    every_second = spaced[tuple(slice(None, None, 2) for _ in array.shape)]
    every_second[...] = array
    layouts = {
        "Fortran": np.asfortranarray(array),
        "transposed twice": np.ascontiguousarray(array.T).T,
        "strided": every_second,
        "reversed": np.ascontiguousarray(array[..., ::-1])[..., ::-1],
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
    }
    layout = data.draw(st.sampled_from(sorted(layouts)))
    assert encoded(layouts[layout]) == expected


def test_the_views_of_the_field_cases_equal_their_contiguous_copies() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (x.T, x[:, ::2], x[::-1], x.T[1:, ::-1], np.broadcast_to(x[:1], (5, 4))):
        assert encoded(view) == encoded(view.copy())


def test_a_decoded_array_shares_the_events_bytes_and_cannot_be_written() -> None:
    array = to_array(encoded(np.arange(4.0)))
    assert not isinstance(array, Refusal)
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_going_out_and_coming_in(dtype: type, value: float) -> None:
    array = np.array([[0.0, value]], dtype)
    assert reason(to_tensor("x", array)) is Reason.NOT_FINITE
    little = array.astype(array.dtype.newbyteorder("<"))
    name = {2: "FP16", 4: "FP32", 8: "FP64"}[little.dtype.itemsize]
    assert reason(to_array(tensor(name, (1, 2), little.tobytes()))) is Reason.NOT_FINITE


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, complex),
        np.array(["a", "b"]),
        np.array([b"a", b"b"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros(2, [("a", int), ("b", float)]),
        np.zeros(2, np.longdouble)
        if np.dtype(np.longdouble).itemsize > 8
        else np.zeros(2, complex),
        np.array([b"a", "b"], object),
        np.array([1, None], object),
    ],
    ids=["complex", "text", "fixed bytes", "dates", "records", "long double", "mixed", "objects"],
)
def test_types_that_the_protocol_has_no_name_for_are_refused(array: np.ndarray) -> None:
    assert reason(to_tensor("x", array)) is Reason.WRONG_DATATYPE


@pytest.mark.parametrize(
    "array",
    [
        np.float64(1.0),
        np.array(3),
        np.zeros((1,) * 9),
        np.zeros((0, 2**31)),
        np.zeros((0, 2**20, 2**20)),
    ],
    ids=["a number", "no axes", "nine axes", "a long axis", "axes too long together"],
)
def test_shapes_that_the_protocol_does_not_have_are_refused(array: np.ndarray) -> None:
    assert reason(to_tensor("x", np.asarray(array))) is Reason.WRONG_SHAPE


LIES = [
    ((2**31 - 1,) * 8, b""),
    ((2**31 - 1, 2**31 - 1), bytes(8)),
    ((1000, 1000, 1000), bytes(4)),
    ((2,), bytes(7)),
    ((2,), bytes(9)),
    ((0,), bytes(4)),
    ((2**16, 2**16, 2**16, 2**16), b""),  # 2**64 elements: 0 to a counter of 64 bits
    ((0, 2**31 - 1, 2**31 - 1, 2**31 - 1), b""),
    ((2**31 - 1, 2**31 - 1, 0), b""),
]


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL", "FP16", "BYTES"])
@pytest.mark.parametrize(("shape", "data"), LIES)
def test_sizes_that_lie_are_refused_before_anything_is_allocated(
    datatype: str, shape: tuple[int, ...], data: bytes
) -> None:
    lie = tensor(datatype, shape, data)
    tracemalloc.start()
    try:
        read = to_array(lie)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reason(read) in {Reason.WRONG_SHAPE, Reason.MALFORMED}
    assert peak < 2**16


@given(
    datatype=st.sampled_from(list(Datatype)),
    shape=st.lists(st.integers(0, 5) | st.integers(0, 2**31 - 1), min_size=1, max_size=8),
    data=st.binary(max_size=64),
)
@settings(deadline=None)
def test_no_tensor_raises(datatype: Datatype, shape: list[int], data: bytes) -> None:
    array = to_array(Tensor(name="x", datatype=datatype, shape=tuple(shape), data=data))
    assert isinstance(array, Refusal) or array.shape == tuple(shape)


@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_a_bool_that_is_neither_0_nor_1_is_malformed(value: int) -> None:
    assert reason(to_array(tensor("BOOL", (2,), bytes([1, value])))) is Reason.MALFORMED


@given(
    parts=st.lists(st.binary(max_size=12), max_size=8),
    rows=st.sampled_from(["flat", "column", "row"]),
)
@settings(deadline=None)
def test_bytes_read_back_as_they_were(parts: list[bytes], rows: str) -> None:
    array = np.empty(len(parts), object)
    array[:] = parts
    array = {"flat": array, "column": array[:, None], "row": array[None]}[rows]
    back = to_array(encoded(array))
    assert not isinstance(back, Refusal)
    assert back.shape == array.shape
    assert back.ravel().tolist() == parts


def test_bytes_of_any_layout_are_the_same() -> None:
    array = np.array([[b"a", b"bb"], [b"", b"dddd"]], object)
    assert encoded(np.asfortranarray(array)) == encoded(array)
    assert encoded(np.ascontiguousarray(array.T).T) == encoded(array)


def elements_of(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<I", length) + data for length, data in parts)


@pytest.mark.parametrize(
    ("shape", "data", "expected"),
    [
        ((1,), elements_of((4, b"abc")), Reason.MALFORMED),
        ((1,), elements_of((2**32 - 1, b"abc")), Reason.MALFORMED),
        ((2,), elements_of((4, b"abcd")), Reason.MALFORMED),
        ((2,), elements_of((1, b"a"), (2, b"b")), Reason.MALFORMED),
        ((2,), elements_of((5, b"abcde")) + b"\0\0", Reason.MALFORMED),
        ((1,), b"\0\0\0", Reason.WRONG_SHAPE),
        ((1,), elements_of((1, b"a"), (1, b"b")), Reason.WRONG_SHAPE),
        ((1,), elements_of((1, b"ab")), Reason.WRONG_SHAPE),
        ((3,), elements_of((0, b""), (0, b"")), Reason.WRONG_SHAPE),
        ((0,), elements_of((0, b"")), Reason.WRONG_SHAPE),
        ((2**31 - 1,), elements_of((0, b"")), Reason.WRONG_SHAPE),
    ],
)
def test_bytes_whose_lengths_lie_are_refused(
    shape: tuple[int, ...], data: bytes, expected: Reason
) -> None:
    assert reason(to_array(tensor("BYTES", shape, data))) is expected
