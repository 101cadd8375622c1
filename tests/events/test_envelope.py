"""The outside of an event, and the frame of what is sealed in it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from members import KINDS, cast, parts, with_header

from fi_stream.events.codec import pack
from fi_stream.events.envelope import (
    clear_fields,
    decode_envelope,
    encode_envelope,
    event_digest,
)
from fi_stream.events.payloads import (
    Abstain,
    Answer,
    Noise,
    QueryPayload,
    frame,
    response_length,
    unframe,
)
from fi_stream.events.query_id import new_query_id
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.values import BrokerMillis

EVENTS = {kind: cast().seal(kind).value for kind in KINDS}
every_kind = pytest.mark.parametrize("kind", KINDS)


def reason(of: object) -> Reason:
    assert isinstance(of, Refusal), of
    return of.reason


@every_kind
def test_an_envelope_keeps_the_header_bytes_as_they_came(kind: str) -> None:
    """Whoever authenticates them must not depend on how it would have packed them."""
    envelope, header = parts(EVENTS[kind])
    fields = header.model_dump(exclude_none=True)
    other_order = pack(dict(reversed(fields.items())))
    assert other_order != envelope.header
    value = encode_envelope(other_order, envelope.nonce, envelope.sealed, envelope.tags)
    again, same = parts(value)
    assert same == header
    assert again.header == other_order


@every_kind
def test_unknown_fields_of_envelope_and_header_are_ignored(kind: str) -> None:
    envelope, header = parts(EVENTS[kind])
    value = with_header(EVENTS[kind], {"new": "x", "ask.new": 2})
    assert parts(value)[1] == header
    assert parts(pack({**envelope.model_dump(), "new": b"y"}))[1] == header


@every_kind
@pytest.mark.parametrize("version", [2, 3, 2**31 - 1])
def test_a_later_version_is_refused_as_such(kind: str, version: int) -> None:
    value = with_header(EVENTS[kind], {"v": version})
    assert reason(decode_envelope(value)) is Reason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", [0, -1, 2**31, True, 1.0, "1"])
def test_what_is_no_version_is_malformed(version: object) -> None:
    value = with_header(EVENTS["query"], {"v": version})
    assert reason(decode_envelope(value)) is Reason.MALFORMED


def test_a_query_has_no_reply_and_all_else_has_one_of_its_kind() -> None:
    reply = parts(EVENTS["response"])[1].reply
    assert reply is not None
    spoiled = [
        with_header(EVENTS["query"], {"reply": reply.model_dump()}),
        with_header(EVENTS["response"], {"reply.kind": "result"}),
        with_header(EVENTS["result"], {"reply.kind": "answer"}),
        with_header(EVENTS["result"], {"reply.kind": "abstain"}),
        with_header(EVENTS["response"], {"type": "query"}),
        with_header(EVENTS["query"], {"type": "result"}),
    ]
    assert {reason(decode_envelope(value)) for value in spoiled} == {Reason.MALFORMED}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("header", b""),
        ("header", bytes(1025)),
        ("nonce", bytes(11)),
        ("nonce", bytes(13)),
        ("sealed", bytes(15)),
        ("tags", bytes(15)),
        ("tags", bytes(16 * 1024 + 1)),
    ],
)
def test_parts_of_the_wrong_size_are_malformed(field: str, value: bytes) -> None:
    envelope, _ = parts(EVENTS["query"])
    assert (
        reason(decode_envelope(pack({**envelope.model_dump(), field: value}))) is Reason.MALFORMED
    )


def test_the_digest_names_header_nonce_and_ciphertext_and_their_borders() -> None:
    digests = {
        event_digest(b"head", b"n" * 12, b"sealed"),
        event_digest(b"heaD", b"n" * 12, b"sealed"),
        event_digest(b"head", b"N" * 12, b"sealed"),
        event_digest(b"head", b"n" * 12, b"seaLed"),
        event_digest(b"headn", b"n" * 11, b"sealed"),
        event_digest(b"hea", b"d" + b"n" * 12, b"sealed"),
    }
    assert len(digests) == 6
    assert all(len(digest) == 32 for digest in digests)


@every_kind
def test_clear_fields_are_flat_and_readable(kind: str) -> None:
    _, header = parts(EVENTS[kind])
    fields = clear_fields(header)
    assert fields["query"] == bytes(range(16)).hex()
    assert fields["sender"] == header.sender
    assert ("digest" in fields) is (kind != "query")
    assert all(isinstance(value, str | int) for value in fields.values())


def a_tensor(data: bytes) -> Tensor:
    return Tensor(name="probabilities", datatype=Datatype.UINT8, shape=(len(data),), data=data)


@given(data=st.binary(max_size=300), at_least=st.integers(0, 700))
@settings(deadline=None)
def test_a_framed_payload_reads_back_and_has_a_round_length(data: bytes, at_least: int) -> None:
    payload = QueryPayload(inputs=(a_tensor(data),))
    framed = frame(payload, at_least)
    assert unframe(framed, QueryPayload) == payload
    assert len(framed) % 64 == 0
    assert len(framed) >= at_least


@given(rows=st.integers(1, 40), classes=st.integers(2, 60), noised=st.booleans())
@settings(deadline=None)
def test_answers_and_abstains_have_one_length(rows: int, classes: int, *, noised: bool) -> None:
    room = response_length(rows, classes)
    data = bytes(8 * rows * classes)
    tensor = Tensor(name="probabilities", datatype=Datatype.FP64, shape=(rows, classes), data=data)
    noise = Noise(mechanism="randomised_response", epsilon=1 / 3, delta=1 / 3, total=1 / 3)
    answer = Answer(
        form="probabilities",
        outputs=(tensor,),
        scale=2**32 if noised else None,
        noise=noise if noised else None,
    )
    abstains = {len(frame(Abstain(reason=code), room)) for code in (1, 200, 2**15)}
    assert abstains == {len(frame(answer, room))}


@pytest.mark.parametrize(
    "framed",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05" + pack(Abstain(reason=1))[:4],
        b"\xff\xff\xff\xff" + bytes(60),
        bytes(64),
        frame(Abstain(reason=1)) + b"\x01",
        frame(Abstain(reason=1))[:-1] + b"\x01",
        frame(Abstain(reason=1))[:4] + b"\0" + frame(Abstain(reason=1))[5:],
    ],
)
def test_a_frame_that_holds_anything_else_is_malformed(framed: bytes) -> None:
    assert reason(unframe(framed, Abstain)) is Reason.MALFORMED


def test_query_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    start = 1_700_000_000_000
    ids = [new_query_id(BrokerMillis(start + step)) for step in range(200)]
    assert ids == sorted(set(ids))
    for step, one in enumerate(ids):
        assert len(one) == 16
        assert int.from_bytes(one[:6], "big") == start + step
        assert one[6] >> 4 == 7
        assert one[8] >> 6 == 2
    same = {new_query_id(BrokerMillis(start)) for _ in range(200)}
    assert len(same) == 200
