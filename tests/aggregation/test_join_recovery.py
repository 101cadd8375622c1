"""Joins that read three logs and crash at any instant: one outcome a query, the first result wins.

Records come late, twice, or before what they belong to; whoever takes over begins at the marks
that were committed last, with nothing else known. What an aggregator does around its join is done
here by `Process`, a record at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fi_stream.aggregation.early import certain
from fi_stream.aggregation.facts import Answered, Asked, Given, Key, Settled
from fi_stream.aggregation.join import Join
from fi_stream.aggregation.results import result_payloads
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome, ResultPayload, frame
from fi_stream.events.refusals import Reason
from fi_stream.values import BrokerMillis, Instant

MEMBERS = ("p1", "p2", "p3", "p4", "p5")
QUORUM = 2
HOP = 15
DEADLINE = 500
LAG = 40
"""At most so many milliseconds after it was appended a process that lives has read a record."""
SKEW = 100
MOST_ASKED = 3
TOPICS = ("results", "queries", "responses")
RULE = st.sampled_from(["soft", "hard", "entropy"])
SAID = st.sampled_from([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.2, 0.3, 0.5], None])


def instant(millis: int) -> Instant:
    return Instant(millis / 1000)


@dataclass(frozen=True)
class Appended:
    """One record of a log: what it says, and when the broker appended it."""

    what: Asked | Given | Settled
    key: Key
    at: int


@dataclass
class Log:
    """What the broker keeps: all that was said, and nothing of who read it."""

    records: dict[str, list[Appended]] = field(default_factory=lambda: {t: [] for t in TOPICS})
    marks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0))

    def ends(self) -> dict[str, int]:
        return {topic: len(records) for topic, records in self.records.items()}

    def results(self, key: Key) -> list[Settled]:
        return [one.what for one in self.records["results"] if one.key == key]


class Process:
    """An aggregator of one partition, from the marks on."""

    def __init__(self, log: Log, *, early: bool) -> None:
        self.join = Join(QUORUM)
        self.log = log
        self.at = dict(log.marks)
        self.known = self.at["results"]
        self.early = early
        self.sending: list[Settled] = []
        self.seen: set[Key] = set()

    def catch_up(self, now: int) -> None:
        """Results first, so that nothing is settled twice; then the rest."""
        ends = self.log.ends()
        for topic in TOPICS:
            while self.at[topic] < ends[topic]:
                self.read(topic, now, live=False)

    def read(self, topic: str, now: int, *, live: bool = True) -> None:
        """Take the next record."""
        offset = self.at[topic]
        record = self.log.records[topic][offset]
        self.at[topic] += 1
        # As far behind as we are reading, so much later may a copy come.
        ask = record.what.asked.ask if topic == "results" else ASKED[record.key].ask
        ends = instant(ask.deadline + SKEW + 2 * (now - record.at))
        match record.what:
            case Settled() as settled:
                self.known = offset + 1 if live else self.known
                self.seen.add(record.key)
                self.join.settled_elsewhere(settled.asked, ends)
            case Asked() as asked if record.at <= asked.ask.deadline:
                mine = replace(asked, offset=offset, results=self.known)
                closes = instant(asked.ask.deadline - HOP)
                done, _ = self.join.query(mine, closes, ends)
                self._settled(record.key, done)
            case Given() as given:
                answered = replace(given.answered, offset=offset)
                time = instant(now) if live else Instant(0.0)
                if self.join.refuse_response(record.key, answered, ends, time) is None:
                    mine = replace(given, answered=answered)
                    self._settled(record.key, self.join.response(record.key, mine, ends))

    def close(self, now: int) -> None:
        """What is due is settled once all is read that was appended until now."""
        end = self.log.ends()["responses"]
        while self.at["responses"] < end:
            self.read("responses", now)
        self._send(self.join.due(instant(now)))

    def keep_up(self, now: int) -> None:
        """Read whatever has been there for long."""
        for topic in TOPICS:
            records = self.log.records[topic]
            while self.at[topic] < len(records) and records[self.at[topic]].at + LAG <= now:
                self.read(topic, now)

    def commit(self) -> None:
        marks = self.join.marks()
        for topic in TOPICS:
            mark = getattr(marks, topic)
            self.log.marks[topic] = self.at[topic] if mark is None else min(self.at[topic], mark)

    def _settled(self, key: Key, done: Settled | None) -> None:
        candidate = self.join.candidate(key) if self.early and done is None else None
        if candidate is not None and certain([candidate], noised=False) == [True]:
            done = self.join.decide(candidate)
        self._send([done] if done else [])

    def _send(self, settled: list[Settled]) -> None:
        assert not self.seen & {one.asked.key for one in settled}, "it has seen a result"
        self.sending += settled


ASKED: dict[Key, Asked] = {}
"""Each query of the history at hand, appended or not."""


class Recovery(RuleBasedStateMachine):
    """A history of one partition, with the processes that come and go over it."""

    early = False

    def __init__(self) -> None:
        super().__init__()
        ASKED.clear()
        self.now = 1_000
        self.log = Log()
        self.underway: list[Settled] = []
        self.delayed: Counter[Key] = Counter()
        self.process: Process | None = Process(self.log, early=self.early)

    @initialize()
    def something_is_asked(self) -> None:
        asked = self._make("soft")
        self._appends("queries", asked, asked)

    @precondition(lambda _: len(ASKED) < MOST_ASKED)
    @rule(rule_name=RULE)
    def a_query_is_made(self, rule_name: str) -> None:
        """By a client that appends it later, or never."""
        self._make(rule_name)

    @precondition(lambda self: self.process and len(ASKED) < MOST_ASKED)
    @rule(rule_name=RULE, says=SAID)
    def a_query_is_asked_and_answered(self, rule_name: str, says: list[float] | None) -> None:
        asked = self._make(rule_name)
        self._appends("queries", asked, asked)
        self._respond(asked, dict.fromkeys(MEMBERS, says))
        for topic in TOPICS:
            self.records_are_read(topic, 100)

    @rule(data=st.data())
    def a_query_is_appended(self, data: st.DataObject) -> None:
        """Perhaps once more, perhaps past its deadline."""
        asked = self._some(data)
        self._appends("queries", asked, asked)

    @rule(
        data=st.data(),
        said=st.dictionaries(st.sampled_from(MEMBERS), SAID, min_size=1),
        closing=st.booleans(),
    )
    def responses_are_appended(
        self, data: st.DataObject, said: dict[str, list[float] | None], *, closing: bool
    ) -> None:
        """Perhaps before their query, perhaps others than the same members gave before.

        Perhaps at the last moment before their query closes.
        """
        asked = self._some(data)
        if closing:
            self.time_passes(asked.ask.deadline - HOP - 1 - self.now, looks=False)
        self._respond(asked, said)
        if closing:
            self.time_passes(1, looks=True)

    @precondition(lambda self: self.process)
    @rule(topic=st.sampled_from(TOPICS), count=st.sampled_from([1, 2, 10]))
    def records_are_read(self, topic: str, count: int) -> None:
        end = self.log.ends()[topic]
        for _ in range(min(count, end - self.process.at[topic])):
            self.process.read(topic, self.now)

    @rule(millis=st.sampled_from([0, 1, 14, 16, 100, 500]), looks=st.booleans())
    def time_passes(self, millis: int, *, looks: bool) -> None:
        ends = self.now + millis
        while self.now < ends:
            self.now = min(ends, self.now + LAG)
            if self.process is not None:
                self.process.keep_up(self.now)
        if self.process is not None and looks:
            self.process.close(self.now)

    @rule(data=st.data(), around=st.sampled_from([-1, 0, 1, HOP + 1]), looks=st.booleans())
    def time_comes_to_where_a_query_closes(
        self, data: st.DataObject, around: int, *, looks: bool
    ) -> None:
        closes = self._some(data).ask.deadline - HOP + around
        self.time_passes(closes - self.now, looks=looks)

    @precondition(lambda self: self.process)
    @rule(commits=st.booleans())
    def results_are_acknowledged(self, *, commits: bool) -> None:
        self._append(self.process.sending)
        self.process.sending = []
        if commits:
            self.process.commit()
            self._check_marks()

    @precondition(lambda self: self.process)
    @rule(arrive=st.sampled_from(["never", "now", "later"]), another=st.booleans())
    def the_process_dies(self, arrive: str, *, another: bool) -> None:
        """Of what it was sending nobody knows whether it arrived, or when."""
        if arrive == "now":
            self._append(self.process.sending)
        elif arrive == "later":
            self.underway += self.process.sending
        self.process = None
        if another:
            self.another_takes_over()

    @precondition(lambda self: self.process is None)
    @rule()
    def another_takes_over(self) -> None:
        self.process = Process(self.log, early=self.early)
        self.process.catch_up(self.now)

    @precondition(lambda self: self.underway)
    @rule()
    def what_a_dead_process_sent_arrives(self) -> None:
        self.delayed.update(one.asked.key for one in self.underway)
        self._append(self.underway)
        self.underway = []

    @invariant()
    def a_query_has_one_result_unless_one_was_underway(self) -> None:
        """Or unless it was asked again: whoever takes over may know the copy alone."""
        for key in ASKED:
            allowed = max(1, self._times(key)) + self.delayed[key]
            assert len(self.log.results(key)) <= allowed

    def teardown(self) -> None:
        """When all deadlines have passed each query has its outcome, and nothing is left of it."""
        if self.process is None:
            self.another_takes_over()
        for _ in range(2):
            self.time_passes(2 * DEADLINE, looks=True)
            self.results_are_acknowledged(commits=False)
        self.process.catch_up(self.now)
        self.a_query_has_one_result_unless_one_was_underway()
        expected = self._replayed()
        for key, asked in ASKED.items():
            results = self.log.results(key)
            in_time = any(
                one.key == key and one.at <= asked.ask.deadline
                for one in self.log.records["queries"]
            )
            assert bool(results) is in_time
            if results:
                _check(results[0], expected[key])
        self.now += 10 * (self.now + DEADLINE)
        self.process.close(self.now)
        assert self.process.join.open == self.process.join.orphans == 0
        self.process.commit()
        assert self.log.marks == self.log.ends()

    def _check_marks(self) -> None:
        """What is not settled lies behind them, and so does the result of what is."""
        marks = self.log.marks
        unsettled = {key for key in ASKED if not self.log.results(key)}
        for topic in ("queries", "responses"):
            for record in self.log.records[topic][: marks[topic]]:
                deadline = ASKED[record.key].ask.deadline
                matters = record.at <= deadline and (topic == "queries" or self.now <= deadline)
                copied = topic == "queries" and self._times(record.key, marks[topic])
                assert not matters or copied or record.key not in unsettled, topic
        for record in self.log.records["queries"][marks["queries"] :]:
            known = [one.key for one in self.log.records["results"][: marks["results"]]]
            repeated = self._times(record.key) > 1 or self.delayed[record.key]
            assert repeated or record.key not in known, "results"

    def _some(self, data: st.DataObject) -> Asked:
        return ASKED[data.draw(st.sampled_from(sorted(ASKED)))]

    def _make(self, rule_name: str) -> Asked:
        number = len(ASKED)
        ask = Ask(
            query=number.to_bytes(16, "big"),
            partition=0,
            rule=rule_name,
            rows=1,
            protection="trusted",
            created=self.now,
            deadline=self.now + DEADLINE,
        )
        asked = Asked("alice", number.to_bytes(32, "big"), ask, 1, frozenset(MEMBERS))
        ASKED[asked.key] = asked
        return asked

    def _respond(self, asked: Asked, said: dict[str, list[float] | None]) -> None:
        for member, says in said.items():
            answered = Answered(member, asked.digest, BrokerMillis(self.now), rule=asked.ask.rule)
            prediction = None if says is None else np.array([says])
            reason = Reason.OVERLOADED if says is None else None
            given = Given(answered, f"model of {member}", prediction, reason)
            self._appends("responses", asked, given)

    def _appends(self, topic: str, asked: Asked, what: Asked | Given | Settled) -> None:
        self.log.records[topic].append(Appended(what, asked.key, self.now))

    def _append(self, settled: list[Settled]) -> None:
        for one in settled:
            self._appends("results", one.asked, one)

    def _times(self, key: Key, since: int = 0) -> int:
        """How often the query's event is in the log, from there on."""
        return sum(one.key == key for one in self.log.records["queries"][since:])

    def _replayed(self) -> dict[Key, Settled]:
        """What a process makes of all queries and answers, if it reads the log alone."""
        alone = Log({**self.log.records, "results": []})
        found = []
        for catches_up in (True, False):
            process = Process(alone, early=False)
            if catches_up:
                process.catch_up(self.now)
            for topic in ("responses", "queries"):
                while process.at[topic] < len(alone.records[topic]):
                    process.read(topic, self.now, live=False)
            process.close(self.now)
            found.append({one.asked.key: one for one in process.sending})
        first, second = found
        assert {k: _bits(one) for k, one in first.items()} == {
            k: _bits(one) for k, one in second.items()
        }
        return first


def _check(settled: Settled, expected: Settled) -> None:
    """What was sent, beside what all answers that came in time make together."""
    made, whole = _payload(settled), _payload(expected)
    deadline = settled.asked.ask.deadline
    for member, given in settled.answers.items():
        assert given.answered == expected.answers[member].answered, "not its first answer"
        assert given.answered.at <= deadline, "counted too late"
    counted = settled.answers.keys() | {m for m, reason in settled.missing.items() if reason}
    early = {
        member: given
        for member, given in expected.answers.items()
        if given.answered.at < deadline - HOP
    }
    match settled.outcome:
        case Outcome.COMPLETE:
            assert _bits(settled) == _bits(expected)
        case Outcome.DECIDED:
            assert made.outputs[0] == whole.outputs[0], "another label"
            assert len(settled.answers) >= QUORUM
        case Outcome.PARTIAL:
            assert early.keys() <= settled.answers.keys()
            assert len(settled.answers) >= QUORUM
            assert len(counted) < len(MEMBERS)
        case Outcome.NO_QUORUM:
            assert early.keys() <= settled.answers.keys()
            assert len(settled.answers) < QUORUM


def _payload(settled: Settled) -> ResultPayload:
    (payload,) = result_payloads([settled])
    return payload


def _bits(settled: Settled) -> bytes:
    return frame(_payload(settled))


class EarlyRecovery(Recovery):
    """The same with early exits."""

    early = True


HOW = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_whatever_dies_each_query_has_one_outcome() -> None:
    run_state_machine_as_test(Recovery, settings=HOW)


def test_whatever_dies_each_query_has_one_outcome_also_with_early_exits() -> None:
    run_state_machine_as_test(EarlyRecovery, settings=HOW)
