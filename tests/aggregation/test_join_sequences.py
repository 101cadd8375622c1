"""Laws of the join over whole histories: queries, answers, replays and results in any order."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fi_stream.aggregation import join as joins
from fi_stream.aggregation.early import certain
from fi_stream.aggregation.facts import Answered, Asked, Given, Key, Settled
from fi_stream.aggregation.join import Join
from fi_stream.aggregation.results import result_payloads
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Noise, Outcome, ResultPayload, frame, unframe
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import BrokerMillis, Instant

MEMBERS = ("p1", "p2", "p3", "p4", "p5")
HOP = 15
DEADLINE = 500
LAG = 40
"""At most so many milliseconds after it was appended a record is read."""


def instant(millis: int) -> Instant:
    return Instant(millis / 1000)


def ends_of(ask: Ask) -> Instant:
    """When a query may be forgotten: later than any copy of it can be read and seem in time."""
    return instant(ask.deadline + LAG + 1)


def ask_at(created: int, query: int = 1, rule_name: str = "soft") -> Ask:
    return Ask(
        query=query.to_bytes(16, "big"),
        partition=0,
        rule=rule_name,
        rows=1,
        protection="trusted",
        created=created,
        deadline=created + DEADLINE,
    )


class Histories(RuleBasedStateMachine):
    """An aggregator's join beside what must be true of it, with few ids so that they collide."""

    def __init__(self) -> None:
        super().__init__()
        self.cap = mock.patch.object(joins, "MOST_ORPHANS", 3)
        self.cap.start()
        self.join = Join(quorum=3)
        self.now = 0
        self.first: dict[Key, Asked] = {}
        self.settled: Counter[Key] = Counter()
        self.elsewhere: set[Key] = set()
        self.given: dict[tuple[Key, bytes, str], int] = {}

    queries = st.tuples(st.sampled_from(["alice", "bob"]), st.integers(0, 3))
    events = st.sampled_from([b"d" * 32, b"e" * 32])

    def _asked(self, query: tuple[str, int], digest: bytes) -> Asked:
        client, number = query
        key = (client, number.to_bytes(16, "big"))
        known = self.first.get(key)
        created = known.ask.created if known else self.now
        return Asked(client, digest, ask_at(created, number), 1, frozenset(MEMBERS))

    @rule(query=queries, digest=events, lag=st.integers(0, LAG))
    def a_query_comes(self, query: tuple[str, int], digest: bytes, lag: int) -> None:
        asked = self._asked(query, digest)
        ends = ends_of(asked.ask)
        if self.now - lag > asked.ask.deadline:
            assert isinstance(self.join.reject(asked, Reason.LATE, ends), Refusal)
            return
        known = self.first.setdefault(asked.key, asked)
        done, refused = self.join.query(asked, instant(asked.ask.deadline - HOP), ends)
        if known is not asked:
            expected = Reason.DUPLICATE if known.digest == digest else Reason.REPLAYED
            assert done is None
            assert [one.reason for one in refused] == [expected]
        else:
            assert {one.reason for one in refused} <= {Reason.WRONG_QUERY, Reason.LATE}
            self._check(done)

    @rule(query=queries, digest=events, lag=st.integers(0, LAG))
    def a_query_is_rejected(self, query: tuple[str, int], digest: bytes, lag: int) -> None:
        asked = self._asked(query, digest)
        known = asked.key in self.first
        if self.now - lag > asked.ask.deadline:
            return
        done = self.join.reject(asked, Reason.TOO_LARGE, ends_of(asked.ask))
        assert isinstance(done, Refusal) is known
        if isinstance(done, Settled):
            self.first[asked.key] = asked
            self._check(done)

    @rule(
        query=queries,
        digest=events,
        member=st.sampled_from(MEMBERS),
        abstains=st.booleans(),
        lag=st.integers(0, LAG),
    )
    def a_response_comes(
        self, query: tuple[str, int], digest: bytes, member: str, lag: int, *, abstains: bool
    ) -> None:
        asked = self._asked(query, digest)
        ends = ends_of(asked.ask)
        answered = Answered(member, digest, BrokerMillis(max(0, self.now - lag)))
        refusal = self.join.refuse_response(asked.key, answered, ends, instant(self.now))
        if refusal is not None:
            at_cap = self.join._orphans[member] == joins.MOST_ORPHANS
            assert at_cap or refusal.reason is not Reason.OVERLOADED
            return
        prediction = None if abstains else np.eye(3)[[0]]
        reason = Reason.OVERLOADED if abstains else None
        done = self.join.response(asked.key, Given(answered, "m", prediction, reason), ends)
        self.given[asked.key, digest, member] = answered.at
        self._check(done)

    @precondition(lambda self: self.first)
    @rule(data=st.data())
    def a_result_of_another_comes(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.first)))
        asked = self.first[key]
        self.join.settled_elsewhere(asked, ends_of(asked.ask))
        if not self.settled[key]:
            self.elsewhere.add(key)

    @rule(millis=st.sampled_from([1, 5, 14, 15, 16, 100, 484, 485, 500]))
    def time_passes(self, millis: int) -> None:
        self.now += millis
        for done in self.join.due(instant(self.now)):
            assert self.now >= done.asked.ask.deadline - HOP, "settled early"
            assert done.outcome in {Outcome.PARTIAL, Outcome.NO_QUORUM}
            self._check(done)

    def _check(self, done: Settled | None) -> None:
        if done is None:
            return
        asked = done.asked
        self.settled[asked.key] += 1
        assert self.settled[asked.key] == 1, "settled twice"
        assert asked.key not in self.elsewhere, "settled here and elsewhere"
        assert asked is self.first[asked.key]
        assert list(done.answers) == sorted(done.answers)
        assert set(done.answers) | set(done.missing) == set(MEMBERS)
        assert not set(done.answers) & set(done.missing)
        if done.outcome is Outcome.COMPLETE:
            assert all(reason is not None for reason in done.missing.values())
        if done.outcome in {Outcome.COMPLETE, Outcome.PARTIAL}:
            assert len(done.answers) >= 3
        for member, answer in done.answers.items():
            assert answer.answered.member == member
            assert answer.answered.digest == asked.digest
            assert answer.answered.at <= asked.ask.deadline

    @invariant()
    def the_counts_are_true(self) -> None:
        entries = self.join._entries.values()
        assert self.join.open == sum(e.asked is not None for e in entries)
        assert self.join.orphans == sum(len(e.given) for e in entries if not e.digest)
        assert min(self.join._orphans.values(), default=0) >= 0
        assert max(self.join._orphans.values(), default=0) <= joins.MOST_ORPHANS
        if self.join._entries:
            due = self.join._timers[0][0]
            assert due <= min(entry.until for entry in entries)

    def teardown(self) -> None:
        """When all deadlines have passed every query is settled, and nothing is left of it."""
        self.cap.stop()
        self.now += DEADLINE + LAG + 1
        for done in self.join.due(instant(self.now)):
            self._check(done)
        assert set(+self.settled) | self.elsewhere == set(self.first)
        assert not self.join._entries
        assert not self.join._timers
        assert self.join.open == self.join.orphans == 0
        assert not any(self.join._orphans.values())


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)

NEAR_TIE = np.nextafter(0.4, 1.0)
PREDICTIONS = {
    "p1": [0.4, NEAR_TIE, 0.2],
    "p2": [NEAR_TIE, 0.4, 0.2],
    "p3": [0.1, 0.2, 0.7],
    "p4": [0.3, 0.3, 0.4],
    "p5": [0.8, 0.1, 0.1],
}
ONE_HOTS = {m: np.eye(3)[i % 3].tolist() for i, m in enumerate(MEMBERS)}


def given_by(member: str, predictions: dict[str, list[float]], rule_name: str) -> Given:
    noise = Noise(mechanism="gaussian", epsilon=1.5, delta=1e-6, total=3.0)
    return Given(
        Answered(member, b"d" * 32, BrokerMillis(10 + len(member)), rule=rule_name),
        f"model of {member}",
        np.array([predictions[member]]),
        noise=noise if member == "p2" else None,
    )


def run(
    events: tuple[str, ...],
    rule_name: str,
    predictions: dict[str, list[float]],
    *,
    early: bool = False,
) -> Settled:
    """Take the query "?" and the answers in that order; settle at the deadline if need be.

    With `early`, also as soon as nothing can change it: what comes then is not looked at.
    """
    join = Join(quorum=2)
    ask = ask_at(0, rule_name=rule_name)
    asked = Asked("alice", b"d" * 32, ask, 1, frozenset(MEMBERS))
    closes, ends = instant(ask.deadline - HOP), instant(ask.deadline)
    found: list[Settled] = []
    for event in events:
        if event == "?":
            done, refused = join.query(asked, closes, ends)
            assert not refused
        else:
            one = given_by(event, predictions, rule_name)
            assert join.refuse_response(asked.key, one.answered, ends, instant(20)) is None
            done = join.response(asked.key, one, ends)
        found += [done] if done else []
        candidate = join.candidate(asked.key) if early else None
        if candidate is not None and certain([candidate], noised=False) == [True]:
            return join.decide(candidate)
    found += join.due(closes)
    (settled,) = found
    return settled


def payload_of(settled: Settled) -> bytes:
    (payload,) = result_payloads([settled])
    return frame(payload)


@pytest.mark.parametrize("rule_name", ["soft", "hard", "entropy"])
@pytest.mark.parametrize("predictions", [PREDICTIONS, ONE_HOTS], ids=["near tie", "one-hots"])
def test_all_120_orders_of_five_answers_give_the_same_result_to_the_bit(
    rule_name: str, predictions: dict[str, list[float]]
) -> None:
    results = {
        payload_of(run(("?", *order), rule_name, predictions)) for order in permutations(MEMBERS)
    }
    assert len(results) == 1


@pytest.mark.parametrize("rule_name", ["soft", "hard", "entropy"])
@pytest.mark.parametrize("predictions", [PREDICTIONS, ONE_HOTS], ids=["near tie", "one-hots"])
def test_in_none_of_the_120_orders_is_anything_decided_while_a_tie_is_in_reach(
    rule_name: str, predictions: dict[str, list[float]]
) -> None:
    for order in permutations(MEMBERS):
        settled = run(("?", *order), rule_name, predictions, early=True)
        assert settled.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("rule_name", ["soft", "hard", "entropy"])
def test_in_all_120_orders_an_early_exit_gives_the_label_of_all_answers(rule_name: str) -> None:
    clear = [0.02, 0.97, 0.01]
    predictions = {"p1": [0.9, 0.1, 0.0]} | dict.fromkeys(MEMBERS[1:], clear)
    whole = payload_of(run(("?", *MEMBERS), rule_name, predictions))
    label = unframe(whole, ResultPayload).outputs[0]
    outcomes = Counter[Outcome]()
    for order in permutations(MEMBERS):
        settled = run(("?", *order), rule_name, predictions, early=True)
        (payload,) = result_payloads([settled])
        assert payload.outputs[0] == label
        assert len(settled.answers) + len(settled.missing) == 5
        outcomes[settled.outcome] += 1
    assert outcomes == {Outcome.DECIDED: 120}


@given(order=st.permutations(["?", *MEMBERS]))
@settings(deadline=None)
def test_an_answer_before_its_query_gives_the_same_result_to_the_bit(order: list[str]) -> None:
    settled = run(tuple(order), "entropy", PREDICTIONS)
    assert settled.outcome is Outcome.COMPLETE
    assert payload_of(settled) == payload_of(run(("?", *MEMBERS), "entropy", PREDICTIONS))


@given(data=st.data(), some=st.sets(st.sampled_from(MEMBERS), max_size=4))
@settings(deadline=None)
def test_the_order_of_some_answers_changes_nothing_either(
    data: st.DataObject, some: set[str]
) -> None:
    order = data.draw(st.permutations(["?", *sorted(some)]))
    settled = run(tuple(order), "soft", PREDICTIONS)
    expected = run(("?", *sorted(some)), "soft", PREDICTIONS)
    assert settled.outcome is (Outcome.PARTIAL if len(some) >= 2 else Outcome.NO_QUORUM)
    assert settled.outcome is expected.outcome
    assert settled.missing == expected.missing == dict.fromkeys(sorted(set(MEMBERS) - some))
    assert payload_of(settled) == payload_of(expected)


@given(order=st.permutations([*MEMBERS, *MEMBERS, *MEMBERS]))
@settings(deadline=None)
def test_copies_of_answers_change_nothing(order: list[str]) -> None:
    join = Join(quorum=2)
    ask = ask_at(0)
    asked = Asked("alice", b"d" * 32, ask, 1, frozenset(MEMBERS))
    ends = instant(ask.deadline)
    join.query(asked, instant(ask.deadline - HOP), ends)
    found, refusals = [], Counter[Reason]()
    for member in order:
        one = given_by(member, PREDICTIONS, asked.ask.rule)
        refusal = join.refuse_response(asked.key, one.answered, ends, instant(20))
        if refusal is not None:
            refusals[refusal.reason] += 1
            continue
        done = join.response(asked.key, one, ends)
        found += [done] if done else []
    (settled,) = found
    assert refusals == {Reason.DUPLICATE: 10}
    assert payload_of(settled) == payload_of(run(("?", *MEMBERS), "soft", PREDICTIONS))
