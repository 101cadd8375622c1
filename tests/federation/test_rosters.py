"""Versions of a roster: the first of its number counts, in order, each from its moment on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from members import cast

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.changes import with_member, without_member
from fi_stream.federation.roster import Role
from fi_stream.federation.rosters import MOST_VERSIONS, RECENT, Published, Rosters
from fi_stream.sealing.identity import Identity
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation

BASE = cast().federation


def version(
    number: int, *, revoked: tuple[str, ...] = (), gone: tuple[str, ...] = ()
) -> Federation:
    members = tuple(each for each in BASE.roster.members if each.id not in gone)
    update = {"version": number, "members": members, "revoked": revoked}
    return BASE.model_copy(update={"roster": BASE.roster.model_copy(update=update)})


def published(federation: Federation, at: int) -> Published:
    names = [member.id for member in federation.roster.members]
    value = f"{federation.roster.version}@{at} {names}".encode()
    return Published(federation, BrokerMillis(at), value)


def reason(refusal: Refusal | None) -> Reason | None:
    return None if refusal is None else refusal.reason


@given(order=st.permutations(range(1, 6)), now=st.integers(0, 700))
def test_the_version_in_effect_does_not_depend_on_the_order_of_arrival(
    order: list[int], now: int
) -> None:
    rosters = Rosters(version(1))
    for number in order:
        moment = 0 if number == 1 else 100 * number
        assert rosters.add(published(version(number), moment)) is None
    expected = max([1, *(number for number in range(2, 6) if 100 * number <= now)])
    assert rosters.current(BrokerMillis(now)).roster.version == expected


def test_the_first_of_a_number_counts_and_a_second_is_an_alarm() -> None:
    rosters = Rosters(version(1))
    first, other = published(version(2), 100), published(version(2, gone=("p3",)), 100)
    assert rosters.add(first) is None
    assert rosters.add(first) is None
    assert reason(rosters.add(other)) is Reason.SECOND_ROSTER
    assert rosters.of(2) == first.federation


def test_a_version_that_is_not_what_our_file_lists_is_an_alarm() -> None:
    rosters = Rosters(version(1))
    assert reason(rosters.add(published(version(1, gone=("p3",)), 0))) is Reason.SECOND_ROSTER
    assert rosters.of(1) == version(1)


def test_a_version_that_would_take_effect_before_an_older_one_is_refused() -> None:
    rosters = Rosters(version(1))
    assert rosters.add(published(version(2), 200)) is None
    assert reason(rosters.add(published(version(3), 199))) is Reason.SECOND_ROSTER


def test_the_earliest_revocation_counts_however_many_versions_repeat_it() -> None:
    rosters = Rosters(version(1))
    for number in (2, 3, 4):
        gone = published(version(number, revoked=("p3",), gone=("p3",)), 100 * number)
        assert rosters.add(gone) is None
    assert rosters.refuse(1, "p3", "response", BrokerMillis(199)) is None
    assert reason(rosters.refuse(1, "p3", "response", BrokerMillis(200))) is Reason.REVOKED
    assert reason(rosters.refuse(2, "p3", "response", BrokerMillis(200))) is Reason.UNKNOWN_MEMBER


def test_whoever_left_has_the_longest_deadline_to_finish_and_the_revoked_nothing() -> None:
    limits = BASE.policy.limits
    grace = limits.max_deadline_ms + 2 * limits.max_skew_ms
    rosters = Rosters(version(1))
    rosters.add(published(version(2, gone=("p2", "p3"), revoked=("p3",)), 1000))
    for now, p2, p3 in ((999, True, True), (1000, True, False), (1000 + grace, False, False)):
        assert rosters.listed("p2", Role.PARTICIPANT, BrokerMillis(now)) is p2
        assert rosters.listed("p3", Role.PARTICIPANT, BrokerMillis(now)) is p3
    assert not rosters.listed("p1", Role.CLIENT, BrokerMillis(0))


def test_old_versions_are_let_go() -> None:
    rosters = Rosters(version(1))
    for number in range(2, 3 * MOST_VERSIONS):
        rosters.add(published(version(number), number))
    newest = 3 * MOST_VERSIONS - 1
    kept = [each.roster.version for each in rosters.all()]
    assert kept == list(range(newest + 1 - MOST_VERSIONS, newest + 1))
    assert rosters.of(1) is None
    late = BrokerMillis(newest + RECENT)
    assert [number for number in kept if rosters.recent(number, late)] == [newest]


def test_a_member_that_comes_back_is_not_revoked_any_more() -> None:
    gone = without_member(BASE, "p3", revoked=True)
    assert gone.roster.revoked == ("p3",)
    still = without_member(gone, "bob", revoked=True)
    assert still.roster.revoked == ("bob", "p3")
    back = with_member(still, Identity.generate("p3").card(), [Role.PARTICIPANT])
    assert back.roster.revoked == ("bob", "p3"), "what it sealed before stays refused"
    assert without_member(back, "p2", revoked=False).roster.revoked == ("bob",)
