from __future__ import annotations

import struct

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.transport.undecodable import _end


def batch(base: int, records: int) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    for place in range(records):
        builder.append(place, 0, b"key", b"value", [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    return data


@given(
    base=st.integers(0, 2**60),
    records=st.integers(1, 20),
    place=st.integers(0, 19),
    junk=st.binary(),
)
def test_the_header_says_where_its_batch_ends(
    base: int, records: int, place: int, junk: bytes
) -> None:
    offset = base + place % records
    assert _end(bytes(batch(base, records)) + junk, offset) == base + records


@given(st.binary(max_size=100), st.integers(0, 2**60))
def test_whatever_the_bytes_it_moves_forward(records: bytes, offset: int) -> None:
    assert _end(records, offset) > offset


def test_a_header_that_does_not_cover_the_offset_is_not_believed() -> None:
    assert _end(bytes(batch(100, 5)), 99) == 100
    assert _end(bytes(batch(100, 5)), 105) == 106
