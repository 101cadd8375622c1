"""Whatever another member or the broker does to an event, it is refused, with its own reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from members import (
    KINDS,
    PAYLOAD,
    READER,
    abstain_payload,
    cast,
    parts,
    query_payload,
    reply,
    result_payload,
    with_header,
)

from fi_stream.events.codec import pack
from fi_stream.events.envelope import TAG_BYTES, encode_envelope, event_digest
from fi_stream.events.header import Ask, Header, Reply
from fi_stream.events.payloads import QueryPayload, ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.keys import ContentKey, TagKey

every_kind = pytest.mark.parametrize("kind", KINDS)


def reason(heard: Verified | Refusal | None) -> Reason:
    assert isinstance(heard, Refusal), heard
    return heard.reason


def tags_within_reach(original: bytes, forger: TagKey, digest: bytes) -> list[bytes]:
    """All that a forger can put where the tags go: its own everywhere, old ones, nothing."""
    envelope, _ = parts(original)
    readers = len(envelope.tags) // TAG_BYTES
    return [forger.tag(digest) * readers, envelope.tags, bytes(readers * TAG_BYTES)]


@every_kind
def test_an_honest_event_is_admitted_and_opened(kind: str) -> None:
    members = cast()
    sealed = members.seal(kind)
    event = members.hear(kind, sealed.value)
    assert isinstance(event, Verified)
    assert event.digest == sealed.digest
    assert not isinstance(event.open(PAYLOAD[kind]), Refusal)


def test_a_participant_cannot_forge_a_query_though_it_holds_the_content_key() -> None:
    members = cast()
    sealed = members.seal("query")
    held = members.hear("query", sealed.value, "p2")
    assert isinstance(held, Verified)
    assert held.epoch.content is not None
    header = held.envelope.header
    nonce, ciphertext = held.epoch.content.seal(header, query_payload())
    digest = event_digest(header, nonce, ciphertext)
    for tags in tags_within_reach(sealed.value, held.epoch.tag, digest):
        forged = encode_envelope(header, nonce, ciphertext, tags)
        assert reason(members.hear("query", forged, "p1")) is Reason.BAD_TAG
        assert reason(members.hear("query", forged, "agg")) is Reason.BAD_TAG


def test_a_participant_cannot_forge_the_response_of_another() -> None:
    members = cast()
    original = members.seal("response", members.epoch("p1")).value
    own = members.epoch("p2")
    forged = with_header(
        own.seal(members.ask(), reply(), abstain_payload()).value,
        {"sender": "p1", "epoch": parts(original)[1].epoch},
    )
    assert reason(members.hear("response", forged)) is Reason.BAD_TAG


def test_a_client_cannot_forge_the_result_of_another() -> None:
    members = cast()
    original = members.seal("result").value
    own = members.epoch("bob")
    forged = with_header(
        own.seal(members.ask(), None, result_payload()).value,
        {
            "type": "result",
            "sender": "agg",
            "epoch": parts(original)[1].epoch,
            "reply": reply("result").model_dump(),
        },
    )
    assert reason(members.hear("result", forged)) is Reason.BAD_TAG


def test_a_client_cannot_forge_its_own_result_for_the_aggregators() -> None:
    """It holds the content key and its own tag key: that convinces nobody but itself."""
    members = cast()
    sealed = members.seal("result")
    held = members.hear("result", sealed.value, "alice")
    assert isinstance(held, Verified)
    assert held.epoch.content is not None
    header = held.envelope.header
    nonce, ciphertext = held.epoch.content.seal(header, result_payload())
    digest = event_digest(header, nonce, ciphertext)
    for tags in tags_within_reach(sealed.value, held.epoch.tag, digest):
        forged = encode_envelope(header, nonce, ciphertext, tags)
        assert reason(members.hear("result", forged, "agg")) is Reason.BAD_TAG


def test_an_event_under_the_epoch_of_another_sender_finds_no_grant() -> None:
    members = cast()
    own = members.seal("response", members.epoch("p2")).value
    stolen_name = with_header(own, {"sender": "p1"})
    assert members.hear("response", stolen_name) is None
    members.time.advance(500)
    waited = members.gate("agg").expired(members.time.monotonic())
    assert [refusal.reason for _, refusal in waited] == [Reason.UNKNOWN_EPOCH]


# Every clear field, what a broker may write there, and what every reader must say.
# None: the event waits for a grant that cannot come, and is refused as unknown_epoch.
FLIPS: dict[str, list[tuple[object, Reason | None]]] = {
    "type": [
        ("query", Reason.WRONG_TOPIC),
        ("response", Reason.WRONG_TOPIC),
        ("result", Reason.WRONG_TOPIC),
        ("grant", Reason.MALFORMED),
    ],
    "v": [(2, Reason.UNSUPPORTED_VERSION), (2**31 - 1, Reason.UNSUPPORTED_VERSION)],
    "task": [(b"t" * 32, Reason.WRONG_TASK)],
    "roster": [(2, None), (2**31, Reason.MALFORMED)],
    "sender": [("mallory", Reason.UNKNOWN_MEMBER), ("Mallory", Reason.MALFORMED)],
    "epoch": [(b"e" * 16, None), (b"short", Reason.MALFORMED)],
    "ask.query": [(b"q" * 16, Reason.BAD_TAG)],
    "ask.partition": [(2, Reason.WRONG_PARTITION)],
    "ask.rule": [("hard", Reason.BAD_TAG)],
    "ask.rows": [(2, Reason.BAD_TAG)],
    "ask.protection": [("none", Reason.BAD_TAG)],
    "ask.created": [(0, Reason.BAD_TAG)],
    "ask.deadline": [(0, Reason.BAD_TAG), (2**63 - 1, Reason.BAD_TAG)],
    "reply.client": [("bob", Reason.BAD_TAG)],
    "reply.digest": [(b"D" * 32, Reason.BAD_TAG)],
    "reply.kind": [("answer", Reason.BAD_TAG)],
    "reply.model": [("m2", Reason.BAD_TAG)],
}
SENDERS: dict[str, list[tuple[object, Reason | None]]] = {
    "query": [("bob", None), ("p1", Reason.WRONG_ROLE), ("agg", Reason.WRONG_ROLE)],
    "response": [("p2", None), ("alice", Reason.WRONG_ROLE), ("agg", Reason.WRONG_ROLE)],
    "result": [("alice", Reason.WRONG_ROLE), ("p1", Reason.WRONG_ROLE)],
}


def clear_fields(kind: str) -> list[str]:
    """The path of every field of a header, so that a new field cannot be forgotten here."""
    paths = [name for name in Header.model_fields if name not in {"ask", "reply"}]
    paths += [f"ask.{name}" for name in Ask.model_fields]
    if kind != "query":
        paths += [f"reply.{name}" for name in Reply.model_fields if name != "share"]
    return paths


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind in KINDS for path in clear_fields(kind)]
)
def test_each_header_field_flipped_is_refused_with_its_reason(kind: str, path: str) -> None:
    members = cast()
    original = members.seal(kind).value
    flips = FLIPS[path] + (SENDERS[kind] if path == "sender" else [])
    for changed, expected in flips:
        if changed == kind:
            continue
        if path == "type" and "query" in {kind, changed}:
            # The reply of a query, or the lack of it in anything else, is seen before the topic.
            expected = Reason.MALFORMED  # noqa: PLW2901  (the one case that the table cannot say)
        if (path, kind) in {("reply.kind", "result"), ("type", "response"), ("type", "result")}:
            expected = Reason.MALFORMED  # noqa: PLW2901  (a result of kind "answer", and so on)
        heard = members.hear(kind, with_header(original, {path: changed}))
        if expected is None:
            assert heard is None, changed
            members.time.advance(500)
            ((_, refusal),) = members.gate(READER[kind]).expired(members.time.monotonic())
            heard = refusal
            members.time.advance(-500)
        assert reason(heard) is (expected or Reason.UNKNOWN_EPOCH), (path, changed)


@every_kind
def test_each_header_field_left_out_is_refused(kind: str) -> None:
    members = cast()
    envelope, header = parts(members.seal(kind).value)
    for path in clear_fields(kind):
        fields = header.model_dump(exclude_none=True)
        *outer, last = path.split(".")
        del (fields[outer[0]] if outer else fields)[last]
        value = encode_envelope(pack(fields), envelope.nonce, envelope.sealed, envelope.tags)
        expected = Reason.BAD_TAG if path == "reply.model" else Reason.MALFORMED
        assert reason(members.hear(kind, value)) is expected, path


@every_kind
def test_an_added_header_field_is_ignored_and_still_authenticated(kind: str) -> None:
    members = cast()
    original = members.seal(kind).value
    assert reason(members.hear(kind, with_header(original, {"new": 1}))) is Reason.BAD_TAG


@every_kind
def test_an_event_on_another_topic_is_refused(kind: str) -> None:
    members = cast()
    value = members.seal(kind).value
    for other in set(KINDS) - {kind}:
        for reader in ("p1", "agg", "alice"):
            assert reason(members.hear(other, value, reader)) is Reason.WRONG_TOPIC


@every_kind
def test_an_event_on_another_partition_is_refused(kind: str) -> None:
    members = cast()
    value = members.seal(kind).value
    record = members.record(kind, value, partition=2)
    assert reason(members.gate(READER[kind]).admit(record, kind)) is Reason.WRONG_PARTITION  # type: ignore[arg-type]


@every_kind
def test_an_event_replayed_after_its_epoch_is_refused(kind: str) -> None:
    members = cast()
    epoch = members.epoch(parts(members.seal(kind).value)[1].sender)
    value = members.seal(kind, epoch).value
    members.time.millis = epoch.epoch.expires
    assert isinstance(members.hear(kind, value), Verified)
    members.time.millis = epoch.epoch.expires + 1
    assert reason(members.hear(kind, value)) is Reason.EXPIRED_EPOCH


def test_an_epoch_is_good_for_one_type_of_event_only() -> None:
    members = cast(also={"p1": Role.CLIENT})
    response = members.seal("response", members.epoch("p1")).value
    envelope, header = parts(response)
    fields = header.model_dump(exclude_none=True) | {"type": "query"}
    del fields["reply"]
    query = encode_envelope(pack(fields), envelope.nonce, envelope.sealed, envelope.tags)
    assert reason(members.hear("query", query, "agg")) is Reason.WRONG_EPOCH


@every_kind
def test_a_tag_more_or_less_is_refused(kind: str) -> None:
    members = cast()
    envelope, _ = parts(members.seal(kind).value)
    tags = envelope.tags
    for changed in (tags + bytes(TAG_BYTES), tags[:-1], tags + b"x", b"x" * 16 * 1000):
        value = encode_envelope(envelope.header, envelope.nonce, envelope.sealed, changed)
        expected = Reason.MALFORMED if len(changed) < TAG_BYTES else Reason.BAD_TAG
        assert reason(members.hear(kind, value)) is expected


@every_kind
def test_an_event_cut_at_any_byte_is_malformed(kind: str) -> None:
    members = cast()
    value = members.seal(kind).value
    for end in range(len(value)):
        assert reason(members.hear(kind, value[:end])) is Reason.MALFORMED, end


@every_kind
@given(tail=st.binary(min_size=1, max_size=40))
@settings(deadline=None, max_examples=30)
def test_an_event_with_trailing_bytes_is_malformed(kind: str, tail: bytes) -> None:
    assert reason(_HONEST.hear(kind, _VALUE[kind] + tail)) is Reason.MALFORMED


def test_an_event_above_the_limit_is_too_large_whatever_is_in_it() -> None:
    members = cast(max_message_bytes=4096)
    assert reason(members.hear("query", bytes(4097))) is Reason.TOO_LARGE
    assert reason(members.hear("query", bytes(4096))) is Reason.MALFORMED


# The same members and events for the tests that try thousands of changes.
_HONEST = cast()
_VALUE = {kind: _HONEST.seal(kind).value for kind in KINDS}


def never_another_payload(kind: str, changed: bytes) -> None:
    """A changed event is refused or waits; if it passes, what it says has not changed."""
    heard = _HONEST.hear(kind, changed)
    if not isinstance(heard, Verified):
        return
    original = _HONEST.hear(kind, _VALUE[kind])
    assert isinstance(original, Verified)
    assert heard.header == original.header
    assert heard.digest == original.digest
    assert heard.open(PAYLOAD[kind]) == original.open(PAYLOAD[kind])


@every_kind
def test_no_single_bit_of_an_event_can_be_flipped_unnoticed(kind: str) -> None:
    value = _VALUE[kind]
    for bit in range(8 * len(value)):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        never_another_payload(kind, bytes(changed))


@every_kind
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_no_part_of_an_event_can_be_replaced_unnoticed(kind: str, data: st.DataObject) -> None:
    value = _VALUE[data.draw(st.sampled_from(KINDS))]
    start = data.draw(st.integers(0, len(value)))
    end = data.draw(st.integers(start, min(len(value), start + 64)))
    put = data.draw(st.binary(max_size=64) | st.just(value[: end - start]))
    never_another_payload(kind, value[:start] + put + value[end:])


def test_a_spoiled_tag_of_another_reader_changes_nothing_for_us() -> None:
    """Else a broker could make participants answer, and aggregators join, different queries."""
    members = cast()
    sealed = members.seal("query")
    envelope, _ = parts(sealed.value)
    readers = ("p1", "p2", "p3", "agg")
    for place, victim in enumerate(readers):
        tags = bytearray(envelope.tags)
        tags[TAG_BYTES * place] ^= 1
        value = encode_envelope(envelope.header, envelope.nonce, envelope.sealed, bytes(tags))
        for reader in readers:
            heard = members.hear("query", value, reader)
            if reader == victim:
                assert reason(heard) is Reason.BAD_TAG
            else:
                assert isinstance(heard, Verified)
                assert heard.digest == sealed.digest


def test_an_aggregator_checks_a_query_and_cannot_read_it() -> None:
    members = cast()
    heard = members.hear("query", members.seal("query").value, "agg")
    assert isinstance(heard, Verified)
    opened = heard.open(QueryPayload)
    assert isinstance(opened, Refusal)
    assert opened.reason is Reason.DECRYPTION_FAILED


def test_another_aggregator_or_client_cannot_read_a_result() -> None:
    members = cast()
    value = members.seal("result").value
    heard = members.hear("result", value, "agg")
    assert isinstance(heard, Verified)
    opened = heard.open(ResultPayload)
    assert isinstance(opened, Refusal)
    assert opened.reason is Reason.DECRYPTION_FAILED
    assert members.hear("result", value, "bob") is None


def test_a_sender_that_seals_other_content_than_it_tags_is_found_when_it_is_opened() -> None:
    """The tag proves who sent it; a member that tags nonsense makes nonsense, not a crash."""
    members = cast()
    epoch = members.epoch("p1")
    value = epoch.seal(members.ask(), reply(), b"no frame and no payload").value
    heard = members.hear("response", value)
    assert isinstance(heard, Verified)
    opened = heard.open(PAYLOAD["response"])
    assert isinstance(opened, Refusal)
    assert opened.reason is Reason.MALFORMED


def test_the_content_key_refuses_another_header_nonce_or_ciphertext() -> None:
    key = ContentKey(b"s" * 32, b"e" * 16)
    nonce, sealed = key.seal(b"header", b"payload")
    assert key.open(b"header", nonce, sealed) == b"payload"
    assert key.open(b"Header", nonce, sealed) is None
    assert key.open(b"header", bytes(12), sealed) is None
    assert key.open(b"header", nonce, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None


def test_content_and_tags_never_share_a_key_nor_do_epochs() -> None:
    tags = {
        TagKey(secret, epoch).tag(b"d" * 32)
        for secret in (b"s" * 32, b"t" * 32)
        for epoch in (b"e" * 16, b"f" * 16)
    }
    assert len(tags) == 4
    nonce, sealed = ContentKey(b"s" * 32, b"e" * 16).seal(b"h", b"p")
    assert ContentKey(b"s" * 32, b"f" * 16).open(b"h", nonce, sealed) is None
