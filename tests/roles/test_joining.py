"""What records settle, one poll at a time: early exits, bounds, and clocks that step."""

from __future__ import annotations

import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from desk import NUMBER, OTHER, SURE, UNSURE, Desk, label, payload
from members import query_payload

from fi_stream.events.payloads import frame
from fi_stream.events.refusals import Reason
from fi_stream.federation.policy import Form, Protection
from fi_stream.roles import joining

HOUR = 3_600_000


def test_two_of_three_that_agree_surely_decide() -> None:
    desk = Desk()
    query = desk.query()
    assert desk.take(query.record, query.says("p2", SURE)) == []
    (settled,) = desk.decide(query.says("p1", SURE))
    assert settled.outcome == "decided"
    assert list(settled.answers) == ["p1", "p2"]
    assert settled.missing == {"p3": None}
    assert desk.take(query.says("p3", OTHER)) == []
    assert desk.tally.counts() == {"late": 1}
    desk.time.advance(500)
    assert desk.due() == []


def test_an_answer_within_a_hop_of_an_early_exit_still_counts() -> None:
    desk = Desk()
    query = desk.query()
    assert desk.take(query.record, query.says("p2", SURE), query.says("p1", SURE)) == []
    assert desk.joining.next_decision is not None
    desk.time.advance(desk.members.federation.policy.limits.hop_ms - 1)
    (settled,) = desk.take(query.says("p3", OTHER))
    assert settled.outcome == "complete"
    desk.time.advance(10)
    assert desk.take() == []
    assert desk.joining.next_decision is None


def test_an_early_exit_does_not_outlive_its_partition() -> None:
    desk = Desk()
    query = desk.query()
    desk.take(query.record, query.says("p2", SURE), query.says("p1", SURE))
    desk.joining.begin({})
    desk.time.advance(1000)
    assert desk.take() == []


@pytest.mark.parametrize("answers", [(SURE, OTHER), (UNSURE, UNSURE), (SURE, UNSURE)])
def test_while_the_third_can_change_it_nothing_is_decided(answers: tuple[np.ndarray, ...]) -> None:
    desk = Desk()
    query = desk.query()
    said = [query.says(f"p{n}", answer) for n, answer in enumerate(answers, start=1)]
    assert desk.take(query.record, *said) == []
    (settled,) = desk.take(query.says("p3", UNSURE))
    assert settled.outcome == "complete"


@pytest.mark.parametrize("first", ["query", "answer"])
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"rows": 2}, "wrong_query"),
        ({"protection": "blind"}, "wrong_query"),
        ({"protection": "mpc"}, "protection_not_allowed"),
    ],
)
def test_an_answer_to_something_else_than_was_asked_is_none(
    asked: dict[str, object], reason: str, first: str
) -> None:
    """Its sender is a member, and may write into its header what it likes."""
    desk = Desk(protections=(Protection.TRUSTED, Protection.BLIND))
    query = desk.query()
    odd = query.says("p1", np.repeat(SURE, 2, axis=0) if "rows" in asked else SURE, **asked)
    records = [query.record, odd] if first == "query" else [odd, query.record]
    for record in records:
        assert desk.take(record) == []
    assert desk.tally.counts() == {reason: 1}
    (settled,) = desk.decide(query.says("p2", SURE), query.says("p3", SURE))
    assert list(settled.answers) == ["p2", "p3"]
    assert label(settled) == 0


def test_answers_before_their_query_decide_it_when_it_comes() -> None:
    desk = Desk()
    query = desk.query()
    assert desk.take(query.says("p1", SURE), query.says("p3", SURE)) == []
    (settled,) = desk.decide(query.record)
    assert (settled.outcome, list(settled.answers)) == ("decided", ["p1", "p3"])


def test_all_answers_of_one_poll_are_complete_and_not_decided() -> None:
    desk = Desk()
    query = desk.query()
    (settled,) = desk.take(query.record, *(query.says(f"p{n}", SURE) for n in (1, 2, 3)))
    assert settled.outcome == "complete"


def test_below_the_quorum_nothing_is_decided() -> None:
    desk = Desk(quorum=3)
    query = desk.query()
    assert desk.take(query.record, query.says("p1", SURE), query.says("p2", SURE)) == []


def test_a_federation_that_wants_every_answer_waits_for_it() -> None:
    """And then the result is the same to the bit in every order and in every cut into polls."""
    results = set()
    for order in permutations(("p1", "p2", "p3")):
        desk = Desk(early_exit=False)
        query = desk.query(query=bytes(16))
        said = {"p1": SURE, "p2": UNSURE, "p3": SURE}
        assert desk.take(query.record) == []
        *none, settled = [desk.take(query.says(member, said[member])) for member in order]
        assert none == [[], []]
        results.add(frame(payload(settled[0])))
    assert len(results) == 1


@pytest.mark.parametrize(
    ("policy", "early"),
    [
        ({"rules": ("soft",)}, False),
        ({"rules": ("soft", "hard")}, False),
        ({"rules": ("hard", "soft"), "rule": "hard"}, True),
        ({"rules": ("soft", "entropy")}, True),
        ({"rules": ("hard",), "rule": "hard", "form": Form.LABEL}, True),
    ],
)
def test_where_the_policy_lets_noised_integers_come_only_votes_are_decided(
    policy: dict[str, object], *, early: bool
) -> None:
    rule = policy.pop("rule", "soft")
    desk = Desk(**policy)
    query = desk.query(rule=rule)
    settled = desk.decide(query.record, query.says("p1", SURE), query.says("p2", SURE))
    assert [one.outcome for one in settled] == ["decided"] * early


def test_noised_integers_that_the_policy_excludes_count_as_an_abstain() -> None:
    """Nothing bounds them: let in, they would change what was already certain."""
    desk = Desk()
    query = desk.query()
    assert desk.take(query.record, query.says("p1", 9 * OTHER, scale=1024)) == []
    assert desk.tally.counts() == {"wrong_form": 1}
    (settled,) = desk.take(query.says("p2", SURE), query.says("p3", SURE))
    assert settled.outcome == "complete"
    assert settled.missing == {"p1": Reason.WRONG_FORM}
    allowed = Desk(rules=("soft", "hard"))
    query = allowed.query()
    allowed.take(query.record, query.says("p1", 9 * OTHER, scale=1024))
    (settled,) = allowed.take(query.says("p2", SURE), query.says("p3", SURE))
    assert label(settled) == 1


def test_past_the_cap_a_query_is_rejected_at_once_and_no_other_pays_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "MOST_OPEN", 3)
    desk = Desk()
    queries = [desk.query() for _ in range(5)]
    rejected = desk.take(*(one.record for one in queries))
    assert [(one.outcome, one.reason) for one in rejected] == [("rejected", Reason.OVERLOADED)] * 2
    assert [one.asked.ask for one in rejected] == [one.ask for one in queries[3:]]
    assert desk.join.open == 3
    assert desk.tally.counts() == {"overloaded": 2}
    # One that is known is not judged again, open or rejected.
    assert desk.take(queries[0].record, queries[4].record) == []
    assert desk.tally.counts() == {"overloaded": 2, "duplicate": 2}
    assert desk.take(queries[4].says("p1", SURE)) == []
    assert desk.join.orphans == 0
    # As soon as one is settled there is room for another.
    first = queries[0]
    assert len(desk.decide(first.says("p1", SURE), first.says("p2", SURE))) == 1
    assert desk.take(desk.query().record) == []
    assert desk.join.open == 3


def test_a_flood_of_queries_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_OPEN", 20)
    desk = Desk()
    sizes = []
    tracemalloc.start()
    for _ in range(4):
        rejected = 0
        for _ in range(10):
            rejected += len(desk.take(*(desk.query().record for _ in range(20))))
            assert desk.join.open == 20
        assert rejected == 180
        sizes.append(tracemalloc.get_traced_memory()[0])
        desk.time.advance(10_000)
        assert len(desk.due()) == 20
        desk.due()
    tracemalloc.stop()
    assert max(sizes[1:]) < sizes[0] + 100_000  # 200 queries that stayed each time would be 600 kB


def fall_behind(desk: Desk, milliseconds: int) -> None:
    """Poll answers for an interval that are so old each time."""
    query = desk.query(deadline=10_000)
    desk.take(query.record)
    for _ in range(4):
        old = query.says("p1", UNSURE)
        desk.time.advance(milliseconds)
        desk.take(old)


def test_behind_a_backlog_a_query_that_cannot_be_in_time_is_rejected_before_its_answers() -> None:
    desk = Desk()
    fall_behind(desk, 200)
    enough, query = desk.query(deadline=500), desk.query(deadline=400)
    (settled,) = desk.take(enough.record, query.record)
    assert (settled.asked.ask, settled.outcome) == (query.ask, "rejected")
    assert settled.reason is Reason.OVERLOADED
    # Its answers are not looked at, whoever they are from; those to the other query count.
    before = desk.tally.counts()["overloaded"]
    forged = desk.record("fi.responses", query.ask.query, b"not even an event")
    assert desk.take(query.says("p1", SURE), forged) == []
    assert desk.tally.counts()["overloaded"] == before + 2
    (decided,) = desk.decide(enough.says("p1", SURE), enough.says("p2", SURE))
    assert decided.outcome == "decided"


def test_a_pause_is_no_backlog() -> None:
    desk = Desk()
    fall_behind(desk, 5)
    query = desk.query(deadline=500)
    desk.time.advance(450)
    assert desk.take(query.record) == []
    (settled,) = desk.decide(query.says("p1", SURE), query.says("p2", SURE))
    assert settled.outcome == "decided"


def test_a_backlog_is_forgotten_when_nothing_is_left_of_it() -> None:
    desk = Desk()
    fall_behind(desk, 200)
    assert len(desk.take(desk.query(deadline=100).record)) == 1
    desk.time.advance(1001)
    assert desk.take(desk.query(deadline=100).record) == []


def test_a_clock_that_stepped_is_no_backlog() -> None:
    desk = Desk()
    fall_behind(desk, 40_000)  # no deadline is so far away
    assert desk.take(desk.query(deadline=100).record) == []


def test_what_is_read_again_is_no_backlog() -> None:
    desk = Desk()
    fall_behind(desk, 200)
    desk.joining.begin({NUMBER: 0})
    late = desk.query(deadline=100)
    desk.time.advance(90)
    assert desk.take(late.record) == []
    desk.joining.catching_up = False
    assert desk.take(desk.query(deadline=150).record) == []


def test_a_long_past_that_was_read_again_is_no_backlog_afterwards() -> None:
    desk = Desk()
    desk.joining.begin({NUMBER: 0})
    fall_behind(desk, 600)
    desk.joining.catching_up = False
    assert desk.take(desk.query(deadline=400).record) == []


def test_whoever_copies_the_id_of_a_query_does_not_cost_it_its_answers() -> None:
    desk = Desk()
    fall_behind(desk, 200)
    honest = desk.query(deadline=500)
    assert desk.take(honest.record) == []
    copied = honest.ask.model_copy(update={"deadline": honest.ask.created + 300})
    sealed = desk.members.epoch("bob").seal(copied, None, query_payload())
    (rejected,) = desk.take(desk.record("fi.queries", copied.query, sealed.value))
    assert rejected.asked.client == "bob"
    (settled,) = desk.decide(honest.says("p1", SURE), honest.says("p2", SURE))
    assert (settled.asked.client, settled.outcome) == ("alice", "decided")


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("when", [0, 100, 184])
def test_a_wall_clock_that_steps_moves_no_deadline(step: int, when: int) -> None:
    desk = Desk()
    opened = desk.time.monotonic()
    query = desk.query(deadline=200)
    assert desk.take(query.record, query.says("p1", SURE)) == []
    desk.time.advance(when)
    desk.time.step(step)
    assert desk.take(query.says("p2", UNSURE)) == []
    closes = desk.join.next_close()
    assert closes == pytest.approx(opened + 0.185)  # a hop before the deadline
    desk.time.advance(184.9 - when)
    assert desk.due() == []
    desk.time.advance(0.2)
    (settled,) = desk.due()
    assert (settled.outcome, list(settled.answers)) == ("partial", ["p1", "p2"])
    assert desk.take(query.record, query.says("p3", SURE)) == []
    desk.time.advance(5_000)
    assert desk.due() == []
    assert desk.tally.counts() == {"duplicate": 1, "late": 1}


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_query_after_the_wall_clock_stepped_has_its_own_200_ms(step: int) -> None:
    desk = Desk()
    desk.time.step(step)
    query = desk.query(deadline=200)
    assert desk.take(query.record, query.says("p1", SURE), query.says("p2", UNSURE)) == []
    assert desk.join.next_close() == pytest.approx(desk.time.monotonic() + 0.185)
    desk.time.advance(186)
    (settled,) = desk.due()
    assert settled.outcome == "partial"
    assert desk.tally.counts() == {}


def test_a_response_100_ms_before_its_query_counts() -> None:
    desk = Desk()
    query = desk.query()
    assert desk.take(query.says("p1", SURE)) == []
    assert desk.join.orphans == 1
    desk.time.advance(100)
    assert desk.take(query.record) == []
    (settled,) = desk.take(query.says("p3", UNSURE), query.says("p2", UNSURE))
    assert (settled.outcome, list(settled.answers)) == ("complete", ["p1", "p2", "p3"])
    assert desk.tally.counts() == {}


def test_a_response_1_ms_after_partial_and_the_query_again_change_nothing() -> None:
    desk = Desk()
    query = desk.query(deadline=200)
    assert desk.take(query.record, query.says("p1", SURE), query.says("p2", UNSURE)) == []
    desk.time.advance(185)
    (settled,) = desk.due()
    assert settled.outcome == "partial"
    desk.time.advance(1)
    assert desk.take(query.says("p3", SURE)) == []
    assert desk.take(query.result(settled)) == []
    assert desk.take(query.record) == []
    assert desk.take(query.says("p1", SURE)) == []
    desk.time.advance(5_000)
    assert desk.due() == []
    assert desk.tally.counts() == {"late": 1, "duplicate": 2}


def test_results_of_before_hold_the_marks_as_long_as_an_older_query_is_open() -> None:
    """Else whoever takes over next finds a query that is settled, and not its result."""
    desk = Desk()
    older, query = desk.query(), desk.query()
    answers = [query.says(p, SURE) for p in ("p1", "p2")]
    (settled,) = desk.decide(older.record, query.record, *answers)
    result = query.result(settled)
    for _ in range(2):
        desk.joining = desk.another()
        desk.joining.catching_up = True
        assert desk.take(result, older.record, query.record) == []
        marks = desk.join.marks()
        assert (marks.queries, marks.results) == (older.record.offset, 0)
    desk.joining.catching_up = False
    assert len(desk.decide(older.says("p1", SURE), older.says("p2", SURE))) == 1
    assert desk.join.marks().results is None


def test_whoever_takes_over_after_an_early_exit_repeats_nothing() -> None:
    desk = Desk()
    query = desk.query()
    said = [query.says("p1", SURE), query.says("p2", SURE)]
    (settled,) = desk.decide(query.record, *said)
    result = query.result(settled)
    last = query.says("p3", OTHER)
    desk.joining = desk.another()
    desk.joining.catching_up = True
    assert desk.take(result) == []
    assert desk.take(query.record) == []
    assert desk.take(*said, last) == []
    assert desk.join.open == 0
    desk.time.advance(500)
    assert desk.due() == []
