"""A dead letter holds a record's own bytes and says the rest about it, in a bounded size."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.events.dead_letter import (
    MOST_BYTES,
    MOST_KEPT,
    MOST_KEY,
    DeadLetter,
    Kept,
    Origin,
    Refuser,
    clear_letter,
    decode_letter,
    encode_letter,
    letter_about,
)
from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

# Decided once for each: a new reason must be put on one of the two sides.
POISON = {
    "malformed", "unsupported_version", "too_large", "wrong_topic", "wrong_partition",
    "wrong_task", "unknown_member", "wrong_role", "wrong_epoch", "second_grant",
    "bad_signature", "bad_tag", "decryption_failed", "second_roster",
}  # fmt: skip
TRAFFIC = {
    "wrong_query", "unknown_roster", "unknown_epoch", "expired_epoch", "replayed", "duplicate",
    "late", "deadline_too_far", "clock_skew", "rule_not_allowed", "protection_not_allowed",
    "wrong_form", "wrong_shape", "wrong_datatype", "not_finite", "not_a_prediction",
    "model_failed", "over_budget", "overloaded", "revoked", "bad_share",
    "second_set", "too_few_answers", "sum_out_of_range", "independent",
}  # fmt: skip


def letter(value: bytes, key: bytes | None = b"k" * 16, topic: str = "fi.queries") -> DeadLetter:
    origin = Origin(topic=topic, partition=2**31 - 1, offset=2**63 - 1, appended=2**63 - 1)
    by = Refuser(member="p" * 64, role="r" * 32)
    return letter_about(origin, Reason.OVERLOADED, by, Kept.of(key, value))


def refused(data: bytes) -> Reason:
    read = decode_letter(data)
    assert isinstance(read, Refusal), read
    return read.reason


def test_every_reason_is_either_poison_or_ordinary_traffic() -> None:
    assert {reason.value for reason in Reason if reason.poison} == POISON
    assert {reason.value for reason in Reason if not reason.poison} == TRAFFIC


@given(value=st.binary(max_size=3 * MOST_KEPT), key=st.none() | st.binary(max_size=2 * MOST_KEY))
def test_a_letter_reads_back_and_names_the_whole_record_however_much_is_kept(
    value: bytes, key: bytes | None
) -> None:
    written = letter(value, key)
    assert decode_letter(encode_letter(written)) == written
    record = written.record
    assert record.digest == hashlib.sha256(value).digest()
    assert record.size == len(value)
    assert record.value == value[:MOST_KEPT]
    cut = len(value) > MOST_KEPT or len(key or b"") > MOST_KEY
    assert (record.truncated, record.whole) == (cut, not cut)


def test_the_largest_letter_that_is_made_can_be_read() -> None:
    # Four bytes a character: no topic of Kafka's is longer.
    data = encode_letter(letter(bytes(2 * MOST_KEPT), bytes(MOST_KEY), "\U0001f480" * 249))
    assert len(data) < MOST_BYTES
    assert isinstance(decode_letter(data), DeadLetter)


def test_a_record_that_is_not_what_its_digest_says_is_not_whole() -> None:
    kept = Kept.of(None, b"as it was")
    assert kept.whole
    assert not kept.model_copy(update={"value": b"as it is"}).whole
    assert not kept.model_copy(update={"truncated": True}).whole


def test_what_is_longer_than_any_letter_is_refused_before_it_is_decoded() -> None:
    assert refused(b"\xdc\xff\xff" * MOST_BYTES) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "grant"},
        {"type": None},
        {"v": True},
        {"reason": 0},
        {"by": {"member": "No Member", "role": "participant"}},
        {"origin": {"topic": "", "partition": 0, "offset": 0, "appended": 0}},
        {"origin": {"topic": "t", "partition": -1, "offset": 0, "appended": 0}},
        {"record": {"size": 1, "digest": b"short", "truncated": False, "value": b""}},
        {"record": {"size": 1, "digest": bytes(32), "truncated": 0, "value": b""}},
        {"record": {"size": 1, "digest": bytes(32), "truncated": True, "value": bytes(4097)}},
    ],
    ids=str,
)
def test_a_letter_with_a_field_of_another_kind_is_malformed(changes: Mapping[str, object]) -> None:
    fields = {**letter(b"value").model_dump(), **changes}
    assert refused(msgpack.packb(fields)) is Reason.MALFORMED


@given(data=st.binary(max_size=200), at=st.integers(0, 400))
def test_no_bytes_are_more_than_malformed(data: bytes, at: int) -> None:
    genuine = encode_letter(letter(b"value" * 20))
    for bytes_ in (data, genuine[:at] + data + genuine[at + len(data) :], genuine + b"\x00"):
        read = decode_letter(bytes_)
        assert isinstance(read, DeadLetter | Refusal)


def test_a_newer_letter_is_refused_as_such_and_unknown_fields_are_ignored() -> None:
    fields = letter(b"value").model_dump()
    assert refused(msgpack.packb({**fields, "v": 2})) is Reason.UNSUPPORTED_VERSION
    assert decode_letter(msgpack.packb({**fields, "new": [1]})) == letter(b"value")


def test_people_read_the_reason_by_its_word_and_a_new_one_by_its_code() -> None:
    known = letter(b"value")
    assert clear_letter(known)["reason"] == "overloaded"
    assert clear_letter(known.model_copy(update={"reason": 999}))["reason"] == "code 999"
    assert known.origin.name == f"fi.queries/{2**31 - 1}/{2**63 - 1}"
