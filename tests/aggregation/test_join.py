"""Each query is settled exactly once, from the answers that belong to it and came in time."""

from __future__ import annotations

import numpy as np
import pytest

from fi_stream.aggregation.facts import Answered, Asked, Given, Key, Settled
from fi_stream.aggregation.join import MOST_ORPHANS, Join
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import BrokerMillis, Instant

MEMBERS = ("p1", "p2", "p3")
DEADLINE = 1000
ENDS = Instant(1.0)
CLOSES = Instant(0.985)
NOW = Instant(0.1)


def asked(client: str = "alice", query: int = 1, digest: bytes = b"d") -> Asked:
    ask = Ask(
        query=query.to_bytes(16, "big"),
        partition=0,
        rule="soft",
        rows=1,
        protection="trusted",
        created=0,
        deadline=DEADLINE,
    )
    return Asked(client, digest * 32, ask, 1, frozenset(MEMBERS))


def answered(member: str, digest: bytes = b"d", at: int = 50) -> Answered:
    return Answered(member, digest * 32, BrokerMillis(at))


def answer(member: str, digest: bytes = b"d", at: int = 50, label: int | None = None) -> Given:
    hot = (int(member[1:]) if label is None else label) % 3
    return Given(answered(member, digest, at), "m1", np.eye(3)[[hot]])


def abstain(member: str) -> Given:
    return Given(answered(member), "m1", None, Reason.OVERLOADED)


def join(quorum: int = 2) -> Join:
    return Join(quorum)


def give(
    to: Join, given: Given, key: Key | None = None, now: Instant = NOW
) -> Settled | Refusal | None:
    """One response, as an aggregator takes it in."""
    key = key or asked().key
    return to.refuse_response(key, given.answered, ENDS, now) or to.response(key, given, ENDS)


def reason(given: Settled | Refusal | None) -> Reason:
    assert isinstance(given, Refusal), given
    return given.reason


def settled(given: Settled | Refusal | None) -> Settled:
    assert isinstance(given, Settled), given
    return given


def forgotten(one: Join) -> bool:
    """Whether nothing at all is kept any more."""
    return (
        not one._entries
        and not one._timers
        and not any(one._orphans.values())
        and one.open == one.orphans == 0
    )


def opened(quorum: int = 2) -> Join:
    one = join(quorum)
    assert one.query(asked(), CLOSES, ENDS) == (None, [])
    return one


def test_the_last_answer_completes_a_query() -> None:
    one = opened()
    assert give(one, answer("p2")) is None
    assert give(one, answer("p1")) is None
    done = settled(give(one, answer("p3")))
    assert done.outcome is Outcome.COMPLETE
    assert list(done.answers) == ["p1", "p2", "p3"]
    assert done.missing == {}
    assert one.open == 0


def test_abstains_account_for_their_members_and_are_no_answers() -> None:
    one = opened()
    give(one, answer("p2"))
    give(one, abstain("p1"))
    done = settled(give(one, answer("p3")))
    assert done.outcome is Outcome.COMPLETE
    assert list(done.answers) == ["p2", "p3"]
    assert done.missing == {"p1": Reason.OVERLOADED}


def test_all_accounted_for_but_too_few_answers_is_no_quorum() -> None:
    one = opened()
    give(one, abstain("p2"))
    give(one, abstain("p1"))
    assert settled(give(one, answer("p3"))).outcome is Outcome.NO_QUORUM


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [(0, Outcome.NO_QUORUM), (1, Outcome.NO_QUORUM), (2, Outcome.PARTIAL)],
)
def test_at_its_time_a_query_is_settled_with_what_there_is(answers: int, outcome: Outcome) -> None:
    one = opened()
    for member in MEMBERS[:answers]:
        give(one, answer(member))
    assert one._timers[0][0] == CLOSES
    assert one.due(Instant(CLOSES - 1e-9)) == []
    (done,) = one.due(CLOSES)
    assert done.outcome is outcome
    assert done.missing == dict.fromkeys(MEMBERS[answers:])
    assert one.due(CLOSES) == []


def test_queries_fall_due_in_the_order_of_their_deadlines() -> None:
    one = join()
    for query, closes in ((1, 3.0), (2, 1.0), (3, 2.0)):
        one.query(asked(query=query), Instant(closes), Instant(closes + 1))
    assert [s.asked.ask.query[-1] for s in one.due(Instant(2.5))] == [2, 3]
    assert [s.asked.ask.query[-1] for s in one.due(Instant(9.0))] == [1]
    assert forgotten(one)


def test_a_second_answer_of_a_member_is_a_duplicate_before_and_after_it_is_settled() -> None:
    one = opened()
    give(one, answer("p1"))
    assert reason(give(one, answer("p1"))) is Reason.DUPLICATE
    assert reason(give(one, abstain("p1"))) is Reason.DUPLICATE
    one.due(CLOSES)
    assert reason(give(one, answer("p1"))) is Reason.DUPLICATE


def test_an_answer_after_the_query_is_settled_is_late() -> None:
    one = opened()
    (done,) = one.due(CLOSES)
    assert done.outcome is Outcome.NO_QUORUM
    assert reason(give(one, answer("p1"), now=CLOSES)) is Reason.LATE


def test_an_answer_appended_after_the_deadline_is_late_and_one_at_it_is_not() -> None:
    one = opened()
    assert reason(give(one, answer("p1", at=DEADLINE + 1))) is Reason.LATE
    assert give(one, answer("p1", at=DEADLINE)) is None


def test_an_answer_to_another_event_of_the_same_id_is_wrong_query() -> None:
    one = opened()
    assert reason(give(one, answer("p1", digest=b"x"))) is Reason.WRONG_QUERY
    assert give(one, answer("p1")) is None


def test_a_member_that_is_no_participant_has_the_wrong_role() -> None:
    assert reason(give(opened(), answer("q1"))) is Reason.WRONG_ROLE


def test_the_same_query_event_again_is_a_duplicate_and_another_one_is_replayed() -> None:
    one = opened()
    for _ in range(2):
        assert one.query(asked(), CLOSES, ENDS)[1][0].reason is Reason.DUPLICATE
        assert one.query(asked(digest=b"x"), CLOSES, ENDS)[1][0].reason is Reason.REPLAYED
        one.due(CLOSES)


def test_two_clients_with_the_same_query_id_do_not_meet() -> None:
    one = join(quorum=1)
    alice, bob = asked("alice", digest=b"a"), asked("bob", digest=b"b")
    assert give(one, answer("p1", b"a"), alice.key) is None
    assert one.query(bob, CLOSES, ENDS) == (None, [])
    assert one.query(alice, CLOSES, ENDS) == (None, [])
    assert one.orphans == 0
    assert reason(give(one, answer("p1", b"a"), bob.key)) is Reason.WRONG_QUERY
    assert give(one, answer("p2", b"b"), bob.key) is None
    results = {s.asked.client: list(s.answers) for s in one.due(CLOSES)}
    assert results == {"alice": ["p1"], "bob": ["p2"]}


def test_an_answer_before_its_query_counts() -> None:
    one = join()
    assert give(one, answer("p1")) is None
    assert give(one, answer("p3")) is None
    assert one.orphans == 2
    assert reason(give(one, answer("p1"))) is Reason.DUPLICATE
    assert one.query(asked(), CLOSES, ENDS) == (None, [])
    assert one.orphans == 0
    assert reason(give(one, answer("p1"))) is Reason.DUPLICATE
    assert list(settled(give(one, answer("p2"))).answers) == ["p1", "p2", "p3"]


def test_a_query_whose_answers_all_came_first_is_settled_at_once() -> None:
    one = join()
    for member in MEMBERS:
        assert give(one, answer(member)) is None
    done, refused = one.query(asked(), CLOSES, ENDS)
    assert settled(done).outcome is Outcome.COMPLETE
    assert refused == []
    assert one.open == one.orphans == 0


def test_early_answers_that_do_not_fit_are_refused_when_the_query_comes() -> None:
    one = join(quorum=1)
    give(one, answer("p1", digest=b"x"))
    give(one, answer("p2", at=DEADLINE + 1))
    give(one, answer("p3"))
    done, refused = one.query(asked(), CLOSES, ENDS)
    assert done is None
    assert [r.reason for r in refused] == [Reason.WRONG_QUERY, Reason.LATE]
    assert give(one, answer("p1")) is None
    (late,) = one.due(CLOSES)
    assert list(late.answers) == ["p1", "p3"]
    assert late.missing == {"p2": None}


def test_an_answer_without_its_query_past_its_deadline_is_late() -> None:
    assert reason(give(join(), answer("p1"), now=ENDS)) is Reason.LATE


def test_answers_without_a_query_are_forgotten_at_their_deadline() -> None:
    one = join()
    for member in MEMBERS:
        give(one, answer(member))
    assert one._timers[0][0] == ENDS
    assert one.due(Instant(0.999)) == []
    assert one.orphans == 3
    assert one.due(ENDS) == []
    assert forgotten(one)


def test_a_member_cannot_shorten_the_wait_of_anothers_early_answer() -> None:
    one = join(quorum=1)
    key = asked().key
    assert one.response(key, answer("p1"), Instant(0.2)) is None
    assert one.response(key, answer("p2"), ENDS) is None
    assert one.due(Instant(0.5)) == []
    one.query(asked(), CLOSES, ENDS)
    (done,) = one.due(CLOSES)
    assert "p2" in done.answers


def test_one_member_has_only_so_many_answers_without_queries() -> None:
    one = join()
    for query in range(MOST_ORPHANS):
        assert give(one, answer("p1"), asked(query=query).key) is None
    over = asked(query=MOST_ORPHANS).key
    assert reason(give(one, answer("p1"), over)) is Reason.OVERLOADED
    assert give(one, answer("p2"), over) is None
    assert give(one, answer("p2"), asked(query=0).key) is None
    one.query(asked(query=0), CLOSES, ENDS)
    assert give(one, answer("p1"), over) is None
    assert reason(give(one, answer("p1"), asked(query=MOST_ORPHANS + 1).key)) is Reason.OVERLOADED
    one.due(Instant(2.0))
    assert forgotten(one)
    assert give(one, answer("p1"), over) is None


def test_refusing_changes_nothing() -> None:
    one = opened()
    for member in MEMBERS:
        for _ in range(3):
            assert one.refuse_response(asked().key, answered(member), ENDS, NOW) is None
            assert one.refuse_response(("bob", b"q" * 16), answered(member), ENDS, NOW) is None
    assert one.orphans == 0
    assert one.open == 1
    assert len(one._entries) == 1


def test_a_result_of_another_aggregator_settles_the_query_here() -> None:
    one = opened()
    give(one, answer("p1"))
    one.settled_elsewhere(asked(), ENDS)
    assert one.open == 0
    assert reason(give(one, answer("p1"))) is Reason.DUPLICATE
    assert reason(give(one, answer("p2"))) is Reason.LATE
    assert one.query(asked(), CLOSES, ENDS)[1][0].reason is Reason.DUPLICATE
    assert one.due(CLOSES) == []
    assert one.due(ENDS) == []
    assert forgotten(one)


@pytest.mark.parametrize("early", [0, 2])
def test_a_result_that_comes_before_its_query_settles_that_too(early: int) -> None:
    one = join()
    for member in MEMBERS[:early]:
        give(one, answer(member))
    one.settled_elsewhere(asked(), ENDS)
    assert one.open == one.orphans == 0
    assert one.query(asked(), CLOSES, ENDS)[1][0].reason is Reason.DUPLICATE
    assert reason(give(one, answer("p3"))) is Reason.LATE
    assert one.due(ENDS) == []
    assert forgotten(one)


def test_our_own_result_read_back_changes_nothing() -> None:
    one = opened()
    one.due(CLOSES)
    one.settled_elsewhere(asked(), ENDS)
    one.settled_elsewhere(asked(), ENDS)
    assert one.open == 0
    assert one.due(ENDS) == []
    assert forgotten(one)


def test_a_query_is_rejected_once() -> None:
    one = join()
    give(one, answer("p1"))
    done = one.reject(asked(), Reason.TOO_LARGE, ENDS)
    assert isinstance(done, Settled)
    assert (done.outcome, done.reason) == (Outcome.REJECTED, Reason.TOO_LARGE)
    assert done.answers == {}
    again = one.reject(asked(), Reason.TOO_LARGE, ENDS)
    assert isinstance(again, Refusal)
    assert again.reason is Reason.DUPLICATE
    assert one.query(asked(), CLOSES, ENDS)[1][0].reason is Reason.DUPLICATE
    assert reason(give(one, answer("p2"))) is Reason.LATE
    assert one.open == one.orphans == 0
    assert one.due(ENDS) == []
    assert forgotten(one)


@pytest.mark.parametrize("stale", [Reason.LATE, Reason.CLOCK_SKEW])
def test_a_stale_query_is_refused_without_a_result_however_often_it_is_replayed(
    stale: Reason,
) -> None:
    """Its entry is long gone: nothing else would keep a replay from getting one more result."""
    one = opened()
    one.due(CLOSES)
    one.due(ENDS)
    for _ in range(3):
        rejected = one.reject(asked(), stale, ENDS)
        assert isinstance(rejected, Refusal)
        assert rejected.reason is stale
    assert forgotten(one)


def test_an_open_query_is_not_rejected() -> None:
    one = opened()
    rejected = one.reject(asked(digest=b"x"), Reason.TOO_LARGE, ENDS)
    assert isinstance(rejected, Refusal)
    assert one.open == 1


def test_what_was_said_is_dropped_as_soon_as_a_query_is_settled() -> None:
    one = opened()
    give(one, answer("p1"))
    one.due(CLOSES)
    (entry,) = one._entries.values()
    assert entry.given == {}


def test_a_query_that_closes_as_it_ends_is_settled_once_and_forgotten() -> None:
    """As with a hop of 0 ms."""
    one = join()
    one.query(asked(), ENDS, ENDS)
    assert len(one.due(ENDS)) == 1
    assert forgotten(one)


def test_of_many_that_are_due_so_many_are_settled_at_once_as_are_wanted() -> None:
    one = join()
    for number in range(5):
        one.query(asked(query=number), CLOSES, ENDS)
    turns = [one.due(CLOSES, 2) for _ in range(4)]
    assert [len(turn) for turn in turns] == [2, 2, 1, 0]
    ids = [each.asked.ask.query for turn in turns for each in turn]
    assert ids == [number.to_bytes(16, "big") for number in range(5)]
    assert one.open == 0
