"""The roster decides who is heard: by the version an event names, and when it was appended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from members import Cast, abstain_payload, cast, reply, with_header

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.changes import with_keys, without_member
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.identity import Identity
from fi_stream.sealing.published import RosterKey, read_roster
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation

KEY = RosterKey.generate("test")
SKEW = 2_000


def made() -> Cast:
    members = cast()
    members.federation = members.federation.model_copy(update={"signing_key": KEY.public})
    return members


def publish(members: Cast, federation: Federation, at: int) -> None:
    """Everybody learns a version that takes effect at that moment."""
    read = read_roster(KEY.publish(federation, BrokerMillis(at)).value, members.federation)
    assert not isinstance(read, Refusal), read
    assert members.rosters.add(read) is None


def heard(members: Cast, kind: str, value: bytes, at: int, reader: str) -> Reason | None:
    """Why that reader refuses an event appended at that moment; None when it is verified."""
    record = replace(members.record(kind, value), at=BrokerMillis(at))
    event = members.gate(reader).admit(record, kind)  # type: ignore[arg-type]
    assert event is not None
    return event.reason if isinstance(event, Refusal) else None


@pytest.mark.parametrize(
    ("revoked", "later"), [(True, Reason.REVOKED), (False, None)], ids=["revoked", "left"]
)
def test_what_a_member_answers_counts_until_it_is_revoked(
    revoked: bool, later: Reason | None
) -> None:
    members = made()
    moment = members.now + 5_000
    value = members.epoch("p1").seal(members.ask(), reply(), abstain_payload()).value
    publish(members, without_member(members.federation, "p1", revoked=revoked), moment)
    assert heard(members, "response", value, moment - 1, "agg") is None
    assert heard(members, "response", value, moment, "agg") is later


def test_a_query_under_a_version_that_was_replaced_is_refused_once_all_clocks_know() -> None:
    members = made()
    moment = members.now + 5_000
    value = members.seal("query").value
    publish(members, without_member(members.federation, "p3", revoked=False), moment)
    assert heard(members, "query", value, moment + SKEW, "p1") is None
    assert heard(members, "query", value, moment + SKEW + 1, "p1") is Reason.UNKNOWN_ROSTER


def test_a_version_does_not_count_before_its_moment() -> None:
    members = made()
    moment = members.now + 5_000
    following = without_member(members.federation, "p3", revoked=False)
    publish(members, following, moment)
    members.federation = following
    value = members.seal("query").value
    assert heard(members, "query", value, moment - SKEW - 1, "p1") is Reason.UNKNOWN_ROSTER
    assert heard(members, "query", value, moment - SKEW, "p1") is None


def test_an_event_of_a_version_that_is_not_known_yet_waits_for_it() -> None:
    members = made()
    following = without_member(members.federation, "p3", revoked=False)
    base, moment = members.federation, members.now
    members.gate("p1")
    members.federation = following
    epoch = members.epoch("alice", spread=False)
    record = members.record("query", members.seal("query", epoch).value)
    members.federation = base
    gate = members.gate("p1")
    assert gate.admit(record, "query") is None
    assert gate.granted(epoch.grant)[1].reason is Reason.UNKNOWN_ROSTER
    publish(members, following, moment)
    assert gate.listed() == [record]
    assert gate.admit(record, "query") is None
    assert gate.granted(epoch.grant) == ([record], None)
    assert isinstance(gate.admit(record, "query"), Verified)


def test_an_epoch_of_one_version_seals_nothing_under_another() -> None:
    members = made()
    following = without_member(members.federation, "p3", revoked=False)
    publish(members, following, members.now)
    epoch = members.epoch("alice")
    epoch._header["roster"] = following.roster.version
    value = members.seal("query", epoch).value
    assert heard(members, "query", value, members.now, "p1") is Reason.WRONG_EPOCH


def test_after_a_rotation_the_old_keys_grant_nothing_under_the_new_version() -> None:
    members = made()
    thief = members.identities["alice"]
    fresh = Identity.generate("alice")
    following = with_keys(members.federation, fresh.card(), revoked=True)
    publish(members, following, members.now)
    members.federation = following
    members.identities["alice"] = thief
    forged = members.epoch("alice", spread=False)
    assert members.gate("p1").granted(forged.grant)[1].reason is Reason.BAD_SIGNATURE
    members.identities["alice"] = fresh
    assert members.gate("p1").granted(members.epoch("alice", spread=False).grant)[1] is None


def test_strangers_of_a_version_to_come_share_one_small_place() -> None:
    members = made()
    gate = members.gate("p1")
    value = members.seal("query").value
    for number in range(1000):
        header = {"roster": 9, "sender": f"stranger{number}", "epoch": number.to_bytes(16, "big")}
        gate.admit(members.record("query", with_header(value, header)), "query")
    assert gate.waiting <= 256
