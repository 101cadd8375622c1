"""A grant is believed once, from its signer, in its time, by the readers that it names."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from members import ROLES, Cast, abstain_payload, cast, query_payload, reply

from fi_stream.events.codec import SEALED_ENTRIES, pack, unpack
from fi_stream.events.grant import Epoch, Grant, ReaderGrant, ReaderKeys, SignedGrant, decode_grant
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.sealing.audiences import Audience
from fi_stream.sealing.epochs import KEY_LIFE, SIGNED, OwnEpoch
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.identity import Identities
from fi_stream.sealing.keyring import MOST_EPOCHS, Keyring, ReadingEpoch
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from collections.abc import Callable


def body(value: bytes) -> Grant:
    decoded = decode_grant(value)
    assert not isinstance(decoded, Refusal), decoded
    return decoded[1]


def signed(members: Cast, by: str, grant: Grant) -> bytes:
    """A grant event with a valid signature of `by`, whatever the grant says."""
    content = pack(grant)
    signature = members.identities[by].sign(SIGNED + content)
    return pack(SignedGrant(grant=content, signature=signature))


def changed(grant: Grant, **epoch: object) -> Grant:
    fields = grant.model_dump()
    return Grant.model_validate({**fields, "epoch": {**fields["epoch"], **epoch}})


def accept(members: Cast, value: bytes, reader: str = "p1") -> ReadingEpoch | Refusal | None:
    return members.ring(reader).accept(value, members.now)


def refused(members: Cast, value: bytes, reader: str = "p1") -> Reason:
    accepted = accept(members, value, reader)
    assert isinstance(accepted, Refusal), accepted
    return accepted.reason


def test_each_reader_gets_its_place_and_only_the_keys_meant_for_it() -> None:
    members = cast()
    grant = members.epoch("alice", spread=False).grant
    accepted = {reader: accept(members, grant, reader) for reader in ROLES}
    assert accepted["alice"] is None
    assert accepted["bob"] is None
    places = []
    for reader in ("p1", "p2", "p3", "agg"):
        mine = accepted[reader]
        assert isinstance(mine, ReadingEpoch)
        places.append(mine.place)
        assert mine.readers == 4
        assert (mine.content is None) is (reader == "agg")
    assert places == [0, 1, 2, 3]


def test_readers_of_one_epoch_have_different_tag_keys() -> None:
    members = cast()
    grant = members.epoch("alice", spread=False).grant
    tags = set()
    for reader in ("p1", "p2", "p3", "agg"):
        mine = accept(members, grant, reader)
        assert isinstance(mine, ReadingEpoch)
        tags.add(mine.tag.tag(b"d" * 32))
    assert len(tags) == 4


def test_a_grant_announced_again_is_nothing_new() -> None:
    members = cast()
    grant = members.epoch("alice", spread=False).grant
    assert isinstance(accept(members, grant), ReadingEpoch)
    for _ in range(3):
        assert accept(members, grant) is None
    members.time.advance(KEY_LIFE + 60_000)
    assert accept(members, grant) is None


def test_a_second_grant_of_an_epoch_is_refused_and_the_first_stays() -> None:
    """Signed by its true sender: only a broken or a lying member does that."""
    members = cast()
    epoch = members.epoch("alice")
    again = OwnEpoch(
        members.identities["alice"], members.federation, epoch.epoch, Audience(("p1",), ("agg",))
    )
    for reader in ("p1", "agg", "bob"):
        assert refused(members, again.grant, reader) is Reason.SECOND_GRANT
    first = members.hear("query", epoch.seal(members.ask(), None, query_payload()).value)
    assert isinstance(first, Verified)
    second = members.hear("query", again.seal(members.ask(), None, query_payload()).value)
    assert isinstance(second, Refusal)
    assert second.reason is Reason.BAD_TAG


def test_two_senders_may_pick_the_same_epoch_id() -> None:
    members = cast()
    first = members.epoch("p1", spread=False)
    same = first.epoch.model_copy(update={"sender": "p2"})
    second = OwnEpoch(members.identities["p2"], members.federation, same, Audience(("agg",)))
    for epoch in (first, second):
        assert isinstance(accept(members, epoch.grant, "agg"), ReadingEpoch)
        value = epoch.seal(members.ask(), reply(), abstain_payload()).value
        assert isinstance(members.hear("response", value), Verified)


@pytest.mark.parametrize("forger", ["p2", "agg", "bob"])
def test_a_grant_forged_by_another_member_is_refused(forger: str) -> None:
    members = cast()
    members.identities["alice"], honest = members.identities[forger], members.identities["alice"]
    forged = members.epoch("alice", spread=False).grant
    members.identities["alice"] = honest
    assert refused(members, forged) is Reason.BAD_SIGNATURE
    assert isinstance(accept(members, members.epoch("alice", spread=False).grant), ReadingEpoch)


def test_a_forged_grant_does_not_keep_the_true_one_out() -> None:
    members = cast()
    true = members.epoch("alice", spread=False)
    forged = signed(members, "p2", body(true.grant))
    assert refused(members, forged) is Reason.BAD_SIGNATURE
    assert isinstance(accept(members, true.grant), ReadingEpoch)


def test_a_signature_of_ours_over_anything_else_is_no_grant() -> None:
    members = cast()
    content = pack(body(members.epoch("alice", spread=False).grant))
    bare = pack(SignedGrant(grant=content, signature=members.identities["alice"].sign(content)))
    assert refused(members, bare) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("sender", "purpose"),
    [
        ("p1", "query"),
        ("p1", "result"),
        ("alice", "response"),
        ("alice", "result"),
        ("agg", "query"),
    ],
)
def test_a_grant_for_what_its_sender_may_not_send_is_refused(sender: str, purpose: str) -> None:
    members = cast()
    epoch = members.made_epoch(sender, purpose, Audience(("p2", "agg")))  # type: ignore[arg-type]
    for reader in ("p2", "agg", "bob"):
        assert refused(members, epoch.grant, reader) is Reason.WRONG_ROLE


# Every field of an epoch, what a true sender might sign there, and what readers say to it. Without
# the true sender's signature each is bad_signature, or what can be said before checking it.
RESIGNED: dict[str, tuple[object, Reason]] = {
    "federation": ("other", Reason.WRONG_TASK),
    "task": (b"t" * 32, Reason.WRONG_TASK),
    "roster": (2, Reason.UNKNOWN_ROSTER),
    "sender": ("mallory", Reason.UNKNOWN_MEMBER),
    "epoch": (b"e" * 16, Reason.DECRYPTION_FAILED),
    "purpose": ("response", Reason.WRONG_ROLE),
    "created": (1, Reason.DECRYPTION_FAILED),
    "expires": (2**62, Reason.DECRYPTION_FAILED),
}


@pytest.mark.parametrize("field", Epoch.model_fields)
def test_each_field_of_an_epoch_is_checked_or_bound_to_the_keys(field: str) -> None:
    members = cast()
    value, expected = RESIGNED[field]
    grant = changed(body(members.epoch("alice", spread=False).grant), **{field: value})
    assert refused(members, signed(members, "alice", grant)) is expected
    unsigned = Reason.BAD_SIGNATURE if expected is Reason.DECRYPTION_FAILED else expected
    assert refused(members, signed(members, "p2", grant)) is unsigned


def test_the_keys_of_one_reader_are_of_no_use_to_another() -> None:
    members = cast()
    grant = body(members.epoch("alice", spread=False).grant)
    first, second, *others = grant.readers
    swapped = (
        first.model_copy(update={"sealed": second.sealed, "commit": second.commit}),
        second.model_copy(update={"sealed": first.sealed, "commit": first.commit}),
        *others,
    )
    value = signed(members, "alice", grant.model_copy(update={"readers": swapped}))
    assert refused(members, value, "p1") is Reason.DECRYPTION_FAILED
    assert refused(members, value, "p2") is Reason.DECRYPTION_FAILED


def test_the_keys_of_one_epoch_are_of_no_use_in_another() -> None:
    members = cast()
    old = body(members.epoch("alice", spread=False).grant)
    new = body(members.epoch("alice", spread=False).grant)
    value = signed(members, "alice", new.model_copy(update={"readers": old.readers}))
    assert refused(members, value) is Reason.DECRYPTION_FAILED


@pytest.mark.parametrize("size", [1, 32, 1119, 1120, 1136, 1152, 4096])
def test_a_ciphertext_of_any_size_is_refused_without_an_exception(size: int) -> None:
    members = cast()
    grant = body(members.epoch("alice", spread=False).grant)
    part = ReaderGrant(reader="p1", sealed=bytes(size), commit=bytes(32))
    value = signed(members, "alice", grant.model_copy(update={"readers": (part,)}))
    assert refused(members, value) is Reason.DECRYPTION_FAILED


@pytest.mark.parametrize("which", ["content", "tag"])
def test_other_keys_than_those_committed_to_are_refused(which: str) -> None:
    """Else one sender could give two readers of one epoch different keys, unseen."""
    members = cast()
    grant = body(members.epoch("alice", spread=False).grant)
    if which == "content":
        lying = grant.model_copy(update={"content": b"c" * 32})
    else:
        readers = tuple(part.model_copy(update={"commit": b"c" * 32}) for part in grant.readers)
        lying = grant.model_copy(update={"readers": readers})
    assert refused(members, signed(members, "alice", lying)) is Reason.BAD_SIGNATURE


def test_a_grant_can_be_taken_in_until_it_expires() -> None:
    members = cast()
    grant = members.epoch("alice", spread=False)
    members.time.millis = grant.epoch.expires
    assert isinstance(accept(members, grant.grant, "p1"), ReadingEpoch)
    members.time.millis += 1
    assert refused(members, grant.grant, "p2") is Reason.EXPIRED_EPOCH


def test_who_looks_into_the_past_opens_what_was_appended_before_an_epoch_was_over() -> None:
    members = cast()
    grant = members.epoch("alice", spread=False)
    identities = Identities(members.identities["p1"])
    late = BrokerMillis(grant.epoch.expires + 5_000)
    for past, opens in ((5_000, True), (4_999, False)):
        ring = Keyring(members.rosters, "p1", identities, Millis(past))
        assert isinstance(ring.accept(grant.grant, late), ReadingEpoch) is opens


def test_a_grant_from_the_future_is_refused_beyond_the_allowed_skew() -> None:
    members = cast(max_skew_ms=2000)
    grant = members.epoch("alice", spread=False)
    members.time.millis = grant.epoch.created - 2001
    assert refused(members, grant.grant) is Reason.CLOCK_SKEW
    members.time.millis += 1
    assert isinstance(accept(members, grant.grant), ReadingEpoch)


def test_a_refused_grant_leaves_nothing_behind() -> None:
    members = cast()
    epoch = members.epoch("alice", spread=False)
    members.time.millis -= 2001
    assert refused(members, epoch.grant) is Reason.CLOCK_SKEW
    assert members.ring("p1").find("alice", epoch.epoch.epoch) is None
    members.time.millis += 2001
    assert isinstance(accept(members, epoch.grant), ReadingEpoch)


def test_a_sender_with_too_many_epochs_loses_its_oldest_and_nobody_elses() -> None:
    members = cast()
    other = members.epoch("p2", spread=False)
    assert isinstance(accept(members, other.grant, "agg"), ReadingEpoch)
    epochs = [members.epoch("p1", spread=False) for _ in range(MOST_EPOCHS + 2)]
    for epoch in epochs:
        assert isinstance(accept(members, epoch.grant, "agg"), ReadingEpoch)
    ring = members.ring("agg")
    known = [ring.find("p1", epoch.epoch.epoch) is not None for epoch in epochs]
    assert known == [False, False] + [True] * MOST_EPOCHS
    assert ring.find("p2", other.epoch.epoch) is not None


def test_a_sender_may_have_an_epoch_for_each_of_very_many_clients() -> None:
    """Were the oldest lost while it is in use, its next announcement would push out another."""
    members = cast()
    alice = members.federation.roster.member("alice")
    assert alice is not None
    many = [alice.model_copy(update={"id": f"c{number}"}) for number in range(300)]
    everyone = (*members.federation.roster.members, *many)
    roster = members.federation.roster.model_copy(update={"members": everyone})
    members.federation = members.federation.model_copy(update={"roster": roster})
    epochs = [members.epoch("p1", spread=False) for _ in many]
    for epoch in epochs:
        assert isinstance(accept(members, epoch.grant, "agg"), ReadingEpoch)
    ring = members.ring("agg")
    assert all(ring.find("p1", epoch.epoch.epoch) for epoch in epochs)


def test_epochs_for_others_push_out_none_of_ours() -> None:
    """A client reads results of hours ago, whatever was granted to other clients since."""
    members = cast()
    epoch = members.epoch("agg", "alice", spread=False)
    assert isinstance(accept(members, epoch.grant, "alice"), ReadingEpoch)
    for _ in range(MOST_EPOCHS + 1):
        assert accept(members, members.epoch("agg", "bob", spread=False).grant, "alice") is None
    assert members.ring("alice").find("agg", epoch.epoch.epoch) is not None
    assert accept(members, epoch.grant, "alice") is None


def test_a_grant_of_an_epoch_that_was_lost_is_taken_in_when_it_is_announced_again() -> None:
    members = cast()
    first = members.epoch("p1", spread=False)
    assert isinstance(accept(members, first.grant, "agg"), ReadingEpoch)
    assert accept(members, first.grant, "agg") is None
    for _ in range(MOST_EPOCHS):
        accept(members, members.epoch("p1", spread=False).grant, "agg")
    assert members.ring("agg").find("p1", first.epoch.epoch) is None
    assert isinstance(accept(members, first.grant, "agg"), ReadingEpoch)
    assert members.ring("agg").find("p1", first.epoch.epoch) is not None


def later_version(grant: Grant) -> dict[str, object]:
    return grant.model_dump() | {"v": 2}


def reader_twice(grant: Grant) -> dict[str, object]:
    fields = grant.model_dump()
    return fields | {"readers": (*fields["readers"], fields["readers"][0])}


def no_reader(grant: Grant) -> dict[str, object]:
    return grant.model_dump() | {"readers": ()}


def too_many_readers(grant: Grant) -> dict[str, object]:
    part = grant.model_dump()["readers"][0]
    readers = tuple({**part, "reader": f"r{i}", "sealed": b"x"} for i in range(SEALED_ENTRIES + 1))
    return grant.model_dump() | {"readers": readers}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (later_version, Reason.UNSUPPORTED_VERSION),
        (reader_twice, Reason.MALFORMED),
        (no_reader, Reason.MALFORMED),
        (too_many_readers, Reason.MALFORMED),
    ],
)
def test_a_signed_grant_of_the_wrong_form_is_refused(
    spoil: Callable[[Grant], dict[str, object]], expected: Reason
) -> None:
    members = cast()
    content = pack(spoil(body(members.epoch("alice", spread=False).grant)))
    signature = members.identities["alice"].sign(SIGNED + content)
    value = pack({"grant": content, "signature": signature})
    assert refused(members, value) is expected


def test_unknown_fields_of_a_grant_are_ignored() -> None:
    members = cast()
    fields = body(members.epoch("alice", spread=False).grant).model_dump()
    fields["epoch"]["new"] = 1
    fields["readers"][0]["new"] = b"2"
    content = pack({**fields, "new": (3,)})
    signature = members.identities["alice"].sign(SIGNED + content)
    value = pack({"grant": content, "signature": signature, "new": {}})
    assert isinstance(accept(members, value), ReadingEpoch)


@cache
def granted() -> tuple[Cast, bytes]:
    members = cast()
    return members, members.epoch("alice", spread=False).grant


def test_a_grant_cut_at_any_byte_is_malformed() -> None:
    members, value = granted()
    for end in range(len(value)):
        assert refused(members, value[:end]) is Reason.MALFORMED, end
    assert refused(members, value + b"\0") is Reason.MALFORMED


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_no_bit_of_a_grant_can_be_flipped(data: st.DataObject) -> None:
    members, value = granted()
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    spoiled = bytearray(value)
    spoiled[bit // 8] ^= 1 << bit % 8
    assert isinstance(accept(members, bytes(spoiled)), Refusal)
    assert members.ring("p1").find("alice", body(value).epoch.epoch) is None


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=50)
def test_bytes_that_are_no_grant_are_malformed(value: bytes) -> None:
    members, _ = granted()
    assert refused(members, value) is Reason.MALFORMED


def test_nothing_printed_shows_a_key() -> None:
    members = cast()
    epoch = members.epoch("alice")
    secret = b"\x01secret\x02" * 4
    keys = ReaderKeys(tag=secret, content=secret)
    mine = members.ring("p1").find("alice", epoch.epoch.epoch)
    for shown in (keys, epoch, mine, members.ring("p1"), members.gate("p1")):
        assert "secret" not in repr(shown)
        assert "secret" not in str(shown)
    assert repr(epoch).startswith("<epoch ")
    assert unpack(pack(keys), ReaderKeys, 32) == keys
