"""The leader's queries: one set, at most one more, then the deadline decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.aggregation.facts import Answered, Asked, Given, Half, Settled
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.secagg.proposal import Proposals, Propose
from fi_stream.secagg.sets import set_digest
from fi_stream.values import BrokerMillis, Instant

MEMBERS = ("p1", "p2", "p3", "p4")
NOW, UNTIL = Instant(0.0), Instant(1.0)


def share(member: str) -> bytes:
    return member.encode().ljust(16, b".")


def settled(
    *members: str, query: int = 1, outcome: Outcome = Outcome.COMPLETE, offset: int = 10
) -> Settled:
    ask = Ask(
        query=query.to_bytes(16, "big"),
        partition=0,
        rule="soft",
        rows=1,
        protection="secagg",
        created=0,
        deadline=1000,
    )
    everyone = frozenset({"p1", "p2", "p3", "p4"})
    asked = Asked("alice", b"d" * 32, ask, 1, everyone, offset, offset + 5)
    answers = {
        member: Given(
            Answered(member, b"d" * 32, BrokerMillis(1), offset + place),
            "m",
            None,
            half=Half(share(member), np.zeros((1, 4), dtype=np.uint64)),
        )
        for place, member in enumerate(members)
    }
    missing = dict.fromkeys(sorted(everyone - set(members)))
    return Settled(asked, outcome, answers, missing, first=offset)


KEY = settled().asked.key


def proposed(proposals: Proposals, one: Settled) -> Propose:
    found = proposals.settled(one, UNTIL, NOW)
    assert isinstance(found, Propose), found
    return found


def test_all_answers_are_proposed_in_order_of_their_members() -> None:
    found = proposed(Proposals(2), settled("p3", "p1", "p2"))
    assert found.members == tuple((m, share(m)) for m in ("p1", "p2", "p3"))


@pytest.mark.parametrize("outcome", [Outcome.NO_QUORUM, Outcome.REJECTED])
def test_an_outcome_without_a_sum_needs_no_proposal(outcome: Outcome) -> None:
    proposals, one = Proposals(2), settled("p1", "p2", "p3", outcome=outcome)
    assert proposals.settled(one, UNTIL, NOW) is one
    assert not len(proposals)


def test_fewer_answers_than_a_sum_may_be_of_are_no_quorum() -> None:
    found = Proposals(3).settled(settled("p1", "p2"), UNTIL, NOW)
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.NO_QUORUM


def test_nothing_is_proposed_past_the_deadline() -> None:
    found = Proposals(2).settled(settled("p1", "p2"), UNTIL, UNTIL)
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.NO_QUORUM


def test_a_result_ends_it() -> None:
    proposals = Proposals(2)
    proposed(proposals, settled("p1", "p2"))
    proposals.result(KEY)
    assert not len(proposals)
    assert proposals.due(UNTIL) == []
    assert proposals.next_due() is None


def test_without_a_result_the_deadline_says_no_quorum_once() -> None:
    proposals = Proposals(2)
    proposed(proposals, settled("p1", "p2"))
    assert proposals.next_due() == UNTIL
    assert proposals.due(Instant(0.9)) == []
    [one] = proposals.due(UNTIL)
    assert one.outcome is Outcome.NO_QUORUM
    assert proposals.due(UNTIL) == []


def test_a_bad_member_is_left_out_once_and_missing_with_its_reason() -> None:
    proposals = Proposals(2)
    first = proposed(proposals, settled("p1", "p2", "p3", "p4"))
    bad = {"p2": Reason.BAD_SHARE}
    second = proposals.refused(KEY, set_digest(first.members), bad, Reason.BAD_SHARE)
    assert isinstance(second, Propose)
    assert [member for member, _ in second.members] == ["p1", "p3", "p4"]
    assert second.settled.outcome is Outcome.PARTIAL
    assert second.settled.missing == {"p2": Reason.BAD_SHARE}
    again = proposals.refused(
        KEY, set_digest(second.members), {"p1": Reason.BAD_SHARE}, Reason.BAD_SHARE
    )
    assert again is None
    [one] = proposals.due(UNTIL)
    assert one.outcome is Outcome.NO_QUORUM


def test_a_set_that_becomes_too_small_is_no_quorum_at_once() -> None:
    proposals = Proposals(2)
    first = proposed(proposals, settled("p1", "p2"))
    found = proposals.refused(
        KEY, set_digest(first.members), {"p2": Reason.BAD_SHARE}, Reason.BAD_SHARE
    )
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.NO_QUORUM
    assert not len(proposals)


def test_while_another_set_is_on_record_only_its_result_or_the_deadline_counts() -> None:
    proposals = Proposals(2)
    first = proposed(proposals, settled("p1", "p2", "p3"))
    digest = set_digest(first.members)
    assert proposals.refused(KEY, digest, {}, Reason.SECOND_SET) is None
    assert len(proposals) == 1


def test_a_refusal_of_another_set_changes_nothing() -> None:
    """Such as one of the set that a leader before us proposed."""
    proposals = Proposals(2)
    proposed(proposals, settled("p1", "p2", "p3"))
    bad = {"p1": Reason.BAD_SHARE}
    for key in (KEY, ("bob", KEY[1])):
        assert proposals.refused(key, b"x" * 32, bad, Reason.BAD_SHARE) is None
    assert len(proposals) == 1


def test_marks_hold_what_a_next_leader_must_read_again() -> None:
    proposals = Proposals(2)
    assert proposals.marks().queries is None
    proposed(proposals, settled("p1", "p2", query=1, offset=20))
    proposed(proposals, settled("p1", "p2", query=2, offset=10))
    marks = proposals.marks()
    assert (marks.queries, marks.responses, marks.results) == (10, 10, 15)
    proposals.result(("alice", (2).to_bytes(16, "big")))
    assert proposals.marks().queries == 20


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("settled"), st.integers(0, 3), st.integers(0, 4)),
            st.tuples(st.just("refused"), st.integers(0, 3), st.integers(0, 4)),
            st.tuples(st.just("result"), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("due"), st.integers(0, 12), st.just(0)),
        ),
        max_size=40,
    )
)
def test_each_query_is_settled_at_most_once_and_proposed_at_most_twice(  # noqa: C901 -- steps
    steps: list[tuple[str, int, int]],
) -> None:
    """And whatever is proposed is either read as a result or ends at its deadline."""
    proposals, now = Proposals(2), 0.0
    last: dict[int, Propose] = {}
    count: dict[int, int] = {}
    ended: list[int] = []

    def note(number: int, found: object) -> None:
        if isinstance(found, Propose):
            last[number] = found
            count[number] = count.get(number, 0) + 1
            assert len(found.members) >= 2
            assert set(found.settled.answers) == {m for m, _ in found.members}
        elif isinstance(found, Settled):
            ended.append(number)

    def over(now: float) -> None:
        for one in proposals.due(Instant(now)):
            note(int.from_bytes(one.asked.ask.query, "big"), one)

    for what, number, many in steps:
        query = number.to_bytes(16, "big")
        if what == "settled" and number not in {*count, *ended}:
            one = settled(*MEMBERS[:many], query=number)
            note(number, proposals.settled(one, Instant(float(number * 3)), Instant(now)))
        elif what == "refused" and number in last:
            bad = dict.fromkeys(MEMBERS[: many % 3], Reason.BAD_SHARE)
            digest = set_digest(last[number].members)
            note(number, proposals.refused(("alice", query), digest, bad, Reason.BAD_SHARE))
        elif what == "result":
            proposals.result(("alice", query))
        elif what == "due":
            now = max(now, float(number))
            over(now)
    assert len(ended) == len(set(ended))
    assert all(times <= 2 for times in count.values())
    over(100.0)
    assert not len(proposals)
    assert len(ended) == len(set(ended))
