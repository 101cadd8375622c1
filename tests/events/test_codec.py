"""Decoding is strict about types and cheap whatever the bytes claim."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.events.codec import CLEAR_ENTRIES, SEALED_ENTRIES, pack, unpack
from fi_stream.events.envelope import Envelope, decode_envelope
from fi_stream.events.grant import Grant, SignedGrant, decode_grant
from fi_stream.events.header import Ask, Header
from fi_stream.events.payloads import (
    Abstain,
    Answer,
    Contributor,
    Missing,
    Noise,
    Outcome,
    QueryPayload,
    ResultPayload,
)
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.roster import RosterVersion, SignedRoster
from fi_stream.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable


class Sample(Value):
    """A number, a text, some bytes, and a list."""

    number: int = 0
    text: str = ""
    raw: bytes = b""
    items: tuple[int, ...] = ()


def malformed(data: bytes, kind: type[Value] = Sample) -> bool:
    read = unpack(data, kind, CLEAR_ENTRIES)
    return isinstance(read, Refusal) and read.reason is Reason.MALFORMED


def test_a_value_reads_back_as_it_was() -> None:
    sample = Sample(number=-(2**63), text="\N{SNOWMAN}\0", raw=b"\xff\0", items=(1, 2, 3))
    assert unpack(pack(sample), Sample, CLEAR_ENTRIES) == sample


def test_unknown_fields_are_ignored() -> None:
    data = msgpack.packb({"number": 7, "new": {"deep": [1, None, 2.5, {"er": b"x"}]}})
    assert unpack(data, Sample, CLEAR_ENTRIES) == Sample(number=7)


NOT_ALLOWED = {
    "nothing": b"",
    "nil": b"\xc0",
    "a number": b"\x07",
    "an array": b"\x90",
    "a text": b"\xa1x",
    "the byte that is never used": b"\xc1",
    "a trailing byte": msgpack.packb({"number": 1}) + b"\0",
    "two values": msgpack.packb({"number": 1}) * 2,
    "duplicate keys": b"\x82\xa6number\x01\xa6number\x01",
    "duplicate unknown keys": b"\x82\xa1x\x01\xa1x\x02",
    "duplicate keys inside": b"\x81\xa1x\x82\xa1y\x01\xa1y\x01",
    "True beside 1": b"\x82\xc3\x01\x01\x02",
    "True as a key": msgpack.packb({True: 1}),
    "a number as a key": msgpack.packb({1: 1}),
    "nil as a key": msgpack.packb({None: 1}),
    "bytes as a key": msgpack.packb({b"number": 1}),
    "bytes beside text as keys": msgpack.packb({"number": 1, b"number": 1}),
    "an array as a key": b"\x81\x91\x01\x01",
    "a map as a key": b"\x81\x81\xa1a\x01\x01",
    "a float as a key": msgpack.packb({1.5: 1}),
    "bool for int": msgpack.packb({"number": True}),
    "float for int": msgpack.packb({"number": 1.0}),
    "text for int": msgpack.packb({"number": "1"}),
    "text for bytes": msgpack.packb({"raw": "x"}),
    "bytes for text": msgpack.packb({"text": b"x"}),
    "int for text": msgpack.packb({"text": 1}),
    "nil for int": msgpack.packb({"number": None}),
    "a map for an array": msgpack.packb({"items": {}}),
    "a float in an array of ints": msgpack.packb({"items": [1.0]}),
    "a lone surrogate": b"\x81\xa4text\xa3\xed\xa0\x80",
    "a lone surrogate in a key": b"\x81\xa3\xed\xa0\x80\x01",
    "half a character": b"\x81\xa4text\xa1\xc3",
    "a timestamp of 4 bytes": b"\x81\xa6number\xd6\xff" + bytes(4),
    "a timestamp of 8 bytes": b"\x81\xa6number\xd7\xff" + bytes(8),
    "a timestamp of 12 bytes": b"\x81\xa6number\xc7\x0c\xff" + bytes(12),
    "a timestamp in an unknown field": b"\x81\xa1x\xd6\xff" + bytes(4),
    "an extension of nothing": b"\x81\xa1x\xc7\x00\x05",
    "an extension of one byte": b"\x81\xa1x\xd4\x05\x00",
    "an extension of 16 bytes": b"\x81\xa1x\xd8\x05" + bytes(16),
    "an extension of 4 GB": b"\x81\xa1x\xc9\xff\xff\xff\xff\x05",
    "a text of 4 GB": b"\x81\xa4text\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\x81\xa3raw\xc6\xff\xff\xff\xff",
    "a map of 4 G entries": b"\xdf\xff\xff\xff\xff",
    "an array of 4 G entries": b"\x81\xa5items\xdd\xff\xff\xff\xff",
    "a map of more entries than allowed": b"\xde\x00\x21",
    "an array of more entries than allowed": b"\x81\xa5items\xdc\x00\x21" + bytes(33),
}


@pytest.mark.parametrize("what", NOT_ALLOWED)
def test_what_messagepack_can_say_and_we_do_not_is_malformed(what: str) -> None:
    assert malformed(NOT_ALLOWED[what])


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -1])
def test_a_time_out_of_range_is_malformed(number: int) -> None:
    fields = {
        "query": bytes(16),
        "partition": 0,
        "rule": "soft",
        "rows": 1,
        "protection": "trusted",
        "created": 0,
        "deadline": 2**63 - 1,
    }
    assert isinstance(unpack(pack(fields), Ask, CLEAR_ENTRIES), Ask)
    assert malformed(pack({**fields, "deadline": number}), Ask)
    assert malformed(pack({**fields, "created": number}), Ask)


def test_an_array_as_long_as_allowed_is_read() -> None:
    items = tuple(range(CLEAR_ENTRIES))
    assert unpack(pack(Sample(items=items)), Sample, CLEAR_ENTRIES) == Sample(items=items)


def test_the_largest_payload_that_is_valid_is_read() -> None:
    """The bound on all entries together must not bite what a full federation really sends."""
    noise = Noise(mechanism="gaussian", epsilon=1.0, delta=0.0, total=1.0)
    payload = ResultPayload(
        outcome=Outcome.PARTIAL,
        contributors=tuple(
            Contributor(member=f"p{i}", model="m", noise=noise) for i in range(SEALED_ENTRIES)
        ),
        missing=tuple(Missing(member=f"q{i}", reason=1) for i in range(SEALED_ENTRIES)),
    )
    assert unpack(pack(payload), ResultPayload, SEALED_ENTRIES) == payload


def tree(leaf: bytes, width: int, levels: int) -> bytes:
    """Arrays in arrays: width ** levels leaves, all lengths honest."""
    for _ in range(levels):
        leaf = b"\xdc" + struct.pack(">H", width) + leaf * width
    return leaf


def maps(leaf: bytes, width: int, levels: int) -> bytes:
    for _ in range(levels):
        entries = b"".join(b"\xa2" + b"%02d" % key + leaf for key in range(width))
        leaf = b"\xde" + struct.pack(">H", width) + entries
    return leaf


UNKNOWN = b"\x81\xa1x"
BOMBS = {
    "arrays of 65535 in each other": b"\xdc\xff\xff" * 1000,
    "the same, and 65 KB of nil": b"\xdc\xff\xff" * 1000 + b"\xc0" * 65536,
    "arrays of 4 G in each other": b"\xdd\xff\xff\xff\xff" * 1000,
    "maps of 65535 in each other": b"\xde\xff\xff\xa1x" * 1000,
    "maps of 4 G in each other": b"\xdf\xff\xff\xff\xff\xa1x" * 1000,
    "arrays as long as allowed in each other": UNKNOWN + b"\xdc\x00\x20" * 100_000,
    "maps as long as allowed in each other": UNKNOWN + b"\xde\x00\x20\xa1x" * 100_000,
    "a million short arrays in each other": b"\x91" * 1_000_000,
    "a million short maps in each other": b"\x81\xa1x" * 300_000,
    "a million empty maps": UNKNOWN + tree(b"\x80", 32, 4),
    "a million empty arrays": UNKNOWN + tree(b"\x90", 32, 4),
    "a million nils": UNKNOWN + tree(b"\xc0", 32, 4),
    "a million texts": UNKNOWN + tree(b"\xa2ab", 32, 4),
    "empty maps in maps": UNKNOWN + maps(b"\x80", 32, 3),
}


def cost(decode: Callable[[bytes], object], data: bytes) -> tuple[int, float]:
    """The most bytes that were allocated at once, and the seconds of the fastest of five."""
    tracemalloc.start()
    try:
        decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    seconds = []
    for _ in range(5):
        start = time.process_time()
        decode(data)
        seconds.append(time.process_time() - start)
    return peak, min(seconds)


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_malformed_at_little_cost(what: str) -> None:
    bomb = BOMBS[what]
    header = msgpack.packb(
        {"header": bomb[:1024], "nonce": bytes(12), "sealed": bytes(16), "tags": bytes(16)}
    )
    for decode, data in ((decode_envelope, bomb), (decode_envelope, header), (decode_grant, bomb)):
        read = decode(data)
        assert isinstance(read, Refusal)
        assert read.reason is Reason.MALFORMED
        peak, seconds = cost(decode, data)
        assert peak < 4 * 2**20
        assert seconds < 0.005


@pytest.mark.parametrize("leaf", [b"\x80", b"\x90", b"\xc0", b"\xa2ab"])
def test_a_bomb_in_a_grant_whose_signature_was_not_checked_yet_costs_little(leaf: bytes) -> None:
    wide = msgpack.packb({"grant": tree(leaf, 512, 2), "signature": bytes(64)})
    deep = msgpack.packb({"grant": b"\xdc\x04\x00" * 50_000, "signature": bytes(64)})
    for data in (wide, deep):
        read = decode_grant(data)
        assert isinstance(read, Refusal)
        assert read.reason is Reason.MALFORMED
        peak, seconds = cost(decode_grant, data)
        assert peak < 12 * 2**20  # 1024 levels, as deep as msgpack goes, of 8 KB each
        assert seconds < 0.03


KINDS = (
    Envelope,
    Header,
    SignedGrant,
    Grant,
    SignedRoster,
    RosterVersion,
    QueryPayload,
    Answer,
    Abstain,
    ResultPayload,
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=100) | anything.map(msgpack.packb))
@settings(deadline=None, max_examples=60)
def test_no_bytes_raise(kind: type[Value], data: bytes) -> None:
    read = unpack(data, kind, SEALED_ENTRIES)
    assert isinstance(read, kind | Refusal)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_no_value_in_a_field_raises(kind: type[Value], data: st.DataObject) -> None:
    fields = {name: data.draw(anything) for name in kind.model_fields}
    read = unpack(msgpack.packb(fields), kind, SEALED_ENTRIES)
    assert isinstance(read, kind | Refusal)


def test_a_refusal_says_where_and_never_what() -> None:
    read = unpack(pack({"number": "a secret"}), Sample, CLEAR_ENTRIES)
    assert isinstance(read, Refusal)
    assert "number" in read.detail
    assert "secret" not in read.detail
