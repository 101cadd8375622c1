"""The helper's decision: all of a set is opened, or it is refused naming the bad members."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.events.header import Ask
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.secagg.release import MOST_SHARES, Held, Proposed, Ready, Refused, Releases
from fi_stream.secagg.sets import Identity
from fi_stream.secagg.shares import Bound, added, opened, split
from fi_stream.values import Instant

IDENTITY = Identity("alice", b"q" * 16, b"d" * 32)
ASK = Ask(
    query=b"q" * 16,
    partition=0,
    rule="soft",
    rows=2,
    protection="secagg",
    created=0,
    deadline=1000,
)
NOW, UNTIL, ENDS = Instant(0.0), Instant(1.0), Instant(2.0)
MEMBERS = ("p1", "p2", "p3")


def share(member: str) -> bytes:
    return member.encode().ljust(16, b".")


def seed(member: str) -> bytes:
    return member.encode().ljust(32, b".")


def read(releases: Releases, *members: str, ask: Ask = ASK) -> None:
    for member in members:
        held = Held(ask, seed(member))
        assert releases.share(IDENTITY, member, share(member), held, ENDS) is None


def proposed(*members: str, ask: Ask = ASK, before: int = 10) -> Proposed:
    listed = tuple((member, share(member)) for member in members)
    return Proposed(IDENTITY, ask, 1, "agg", listed, b"half", before, UNTIL)


def test_a_set_is_ready_once_all_of_it_is_read_in_whatever_order() -> None:
    releases = Releases(2)
    read(releases, "p3")
    assert releases.propose(proposed(*MEMBERS)) is None
    assert releases.decide(5, NOW) == []
    read(releases, "p1", "p2")
    [ready] = releases.decide(5, NOW)
    assert isinstance(ready, Ready)
    assert ready.seeds == tuple(map(seed, MEMBERS))
    assert releases.decide(99, UNTIL) == []


def test_the_helpers_sum_and_the_leaders_open_to_the_sum_of_the_answers() -> None:
    releases = Releases(2)
    answers = np.random.default_rng(0).integers(0, 2**16, (3, 2, 4))
    bounds = [Bound("alice", b"q" * 16, b"d" * 32, member, 2, 4) for member in MEMBERS]
    leader = added(
        split(answer, seed(member), bound)
        for answer, member, bound in zip(answers, MEMBERS, bounds, strict=True)
    )
    read(releases, *MEMBERS)
    releases.propose(proposed(*MEMBERS))
    [ready] = releases.decide(0, NOW)
    assert isinstance(ready, Ready)
    assert (opened(leader, ready.total(4)) == answers.sum(axis=0)).all()


def test_what_is_not_there_once_all_is_read_is_named() -> None:
    releases = Releases(2)
    read(releases, "p1", "p3")
    releases.propose(proposed(*MEMBERS))
    assert releases.decide(9, NOW) == []
    [refused] = releases.decide(10, NOW)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.BAD_SHARE
    assert refused.bad == (("p2", Reason.BAD_SHARE),)


def test_a_helper_that_is_behind_says_so_in_time() -> None:
    releases = Releases(2)
    releases.propose(proposed(*MEMBERS))
    assert releases.decide(0, Instant(0.99)) == []
    [refused] = releases.decide(0, UNTIL)
    assert isinstance(refused, Refused)
    assert {member for member, _ in refused.bad} == set(MEMBERS)


def test_too_small_a_set_is_refused_even_if_all_of_it_is_there() -> None:
    releases = Releases(3)
    read(releases, *MEMBERS)
    found = releases.propose(proposed("p1", "p2"))
    assert isinstance(found, Refused)
    assert found.reason is Reason.TOO_FEW_ANSWERS
    assert releases.decide(99, UNTIL) == []


@pytest.mark.parametrize("members", [("p2", "p1", "p3"), ("p1", "p1", "p2")])
def test_a_set_that_is_not_in_order_or_names_a_member_twice_is_refused(
    members: tuple[str, ...],
) -> None:
    """Twice the same answer, less once, is that answer."""
    releases = Releases(2)
    read(releases, *MEMBERS)
    found = releases.propose(proposed(*members))
    assert isinstance(found, Refused)
    assert found.reason is Reason.MALFORMED


@pytest.mark.parametrize("change", [{"deadline": 2000}, {"rows": 1}, {"rule": "hard"}])
def test_a_leader_that_says_something_else_was_asked_gets_nothing(
    change: dict[str, object],
) -> None:
    releases = Releases(2)
    read(releases, *MEMBERS)
    releases.propose(proposed(*MEMBERS, ask=ASK.model_copy(update=change)))
    [refused] = releases.decide(10, NOW)
    assert isinstance(refused, Refused)
    assert len(refused.bad) == 3


def test_a_share_of_another_answer_of_the_same_member_does_not_fit() -> None:
    releases = Releases(2)
    read(releases, *MEMBERS)
    listed = (("p1", share("p1")), ("p2", b"another id of 16"))
    one = Proposed(IDENTITY, ASK, 1, "agg", listed, b"half", 10, UNTIL)
    releases.propose(one)
    [refused] = releases.decide(10, NOW)
    assert isinstance(refused, Refused)
    assert refused.bad == (("p2", Reason.BAD_SHARE),)


def test_the_same_proposal_twice_is_decided_once_until_it_is_decided() -> None:
    releases = Releases(2)
    read(releases, *MEMBERS)
    assert releases.propose(proposed(*MEMBERS)) is None
    assert isinstance(releases.propose(proposed(*MEMBERS)), Refusal)
    assert len(releases.decide(10, NOW)) == 1
    assert releases.propose(proposed(*MEMBERS)) is None  # again: the same sum again
    assert len(releases.decide(10, NOW)) == 1


def test_copies_and_floods_of_one_member_are_refused_and_cost_no_other() -> None:
    releases = Releases(2)
    for number in range(MOST_SHARES):
        held = Held(ASK, seed("p1"))
        assert releases.share(IDENTITY, "p1", number.to_bytes(16, "big"), held, ENDS) is None
    found = releases.share(IDENTITY, "p1", b"one more of them", held, ENDS)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.OVERLOADED
    copy = releases.share(IDENTITY, "p1", bytes(16), held, ENDS)
    assert isinstance(copy, Refusal)
    assert copy.reason is Reason.DUPLICATE
    read(releases, "p2")


def test_shares_are_forgotten_when_nothing_can_be_proposed_any_more() -> None:
    releases = Releases(2)
    read(releases, *MEMBERS)
    releases.forget(Instant(1.9))
    assert releases.shares == 3
    releases.forget(ENDS)
    assert releases.shares == 0
    releases.propose(proposed(*MEMBERS))
    [refused] = releases.decide(10, NOW)
    assert isinstance(refused, Refused)


def test_no_seed_is_shown() -> None:
    held, one = Held(ASK, seed("p1")), proposed(*MEMBERS)
    for shown in (repr(held), repr(Ready(one, (seed("p1"),))), repr(one)):
        assert "p1...." not in shown.replace(repr(share("p1")), "")
        assert "half'" not in shown


@given(st.permutations(["p1", "p2", "p3", "proposal"]), st.sets(st.sampled_from(MEMBERS)))
def test_whatever_comes_first_a_set_is_opened_whole_or_refused(
    order: list[str], lost: set[str]
) -> None:
    releases, decided = Releases(2), []
    for place, what in enumerate(order):
        if what == "proposal":
            releases.propose(proposed(*MEMBERS, before=4))
        elif what not in lost:
            read(releases, what)
        decided += releases.decide(place, NOW)
    decided += releases.decide(4, NOW)
    [one] = decided
    assert isinstance(one, Ready) == (not lost)
    if isinstance(one, Refused):
        assert {member for member, _ in one.bad} == lost
