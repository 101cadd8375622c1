"""The checker on made-up histories: what is right passes, and each planted fault is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.crash.checker import Column, check, lateness, settled_by
from bench.crash.history import History, Query, Response, Result, Span, Terms, Told

MEMBERS = ("p1", "p2", "p3")
TERMS = Terms(participants=MEMBERS, quorum=2, bound_ms=2_000, edge_ms=25)
START = 1_000_000
DEADLINE = START + 500
THIRD = 1 / 3

QUERY = Query("q", "d", START, DEADLINE)
ANSWERS = tuple(
    Response("q", "d", member, START + 20 + number, number, event=member, cost=8)
    for number, member in enumerate(MEMBERS)
)
COMPLETE = Result("q", "d", START + 30, "complete", 0, (THIRD, THIRD, THIRD), MEMBERS)
PARTIAL = Result("q", "d", DEADLINE - 10, "partial", 0, (0.5, 0.5, 0.0), ("p1", "p2"), {"p3": None})
NO_QUORUM = Result("q", "d", DEADLINE - 10, "no_quorum", missing={"p2": None, "p3": None})
SERVED = (Span(START - 1_000, START + 60_000),)
GOOD = History((QUERY,), ANSWERS, (COMPLETE,), SERVED, START + 60_000)


def columns(history: History) -> list[Column]:
    return [fault.column for fault in check(history, TERMS).faults]


class TestPlantedFaults:
    def test_commit_before_effect_loses_the_query_that_was_open_at_the_crash(self) -> None:
        # The marks had passed the query when the process died, so the next one never read it.
        assert columns(replace(GOOD, results=())) == [Column.LOST]

    def test_no_drain_leaves_out_an_answer_that_was_appended_in_time(self) -> None:
        late_reader = replace(GOOD, results=(PARTIAL,))
        assert columns(late_reader) == [Column.CONTRADICTION]
        assert "p3 is missing as silent" in check(late_reader, TERMS).faults[0].what

    @pytest.mark.parametrize(
        "shares", [(0.5, 0.25, 0.25), (0.25, 0.25, 0.5), (2 / 5, 2 / 5, 1 / 5), (3 / 5, 0.2, 0.2)]
    )
    def test_a_double_count_shows_in_the_shares(self, shares: tuple[float, ...]) -> None:
        doubled = replace(COMPLETE, shares=shares)
        assert columns(replace(GOOD, results=(doubled,))) == [Column.DOUBLED]

    def test_a_contributor_that_is_listed_twice_is_a_double_count(self) -> None:
        doubled = replace(COMPLETE, contributors=("p1", "p1", "p2", "p3"))
        assert Column.DOUBLED in columns(replace(GOOD, results=(doubled,)))


class TestWhatIsRight:
    def test_a_complete_query_has_no_fault(self) -> None:
        verdict = check(GOOD, TERMS)
        assert not verdict.faults
        assert (verdict.queries, verdict.outcomes, verdict.repeats) == (1, {"complete": 1}, 0)

    def test_who_said_nothing_in_time_may_be_missing(self) -> None:
        assert not columns(replace(GOOD, responses=ANSWERS[:2], results=(PARTIAL,)))
        late = replace(ANSWERS[2], at=DEADLINE + 1)
        assert not columns(replace(GOOD, responses=(*ANSWERS[:2], late), results=(PARTIAL,)))

    def test_an_answer_within_the_edge_may_be_left_out_or_counted(self) -> None:
        edge = replace(ANSWERS[2], at=DEADLINE - TERMS.edge_ms + 1)
        responses = (*ANSWERS[:2], edge)
        assert not columns(replace(GOOD, responses=responses, results=(PARTIAL,)))
        counted = replace(COMPLETE, at=DEADLINE + 20)
        assert not columns(replace(GOOD, responses=responses, results=(counted,)))

    def test_too_few_answers_give_no_quorum(self) -> None:
        assert not columns(replace(GOOD, responses=ANSWERS[:1], results=(NO_QUORUM,)))

    def test_a_repeated_result_is_harmless(self) -> None:
        again = replace(COMPLETE, at=COMPLETE.at + 900, contributors=("p3", "p1", "p2"))
        verdict = check(replace(GOOD, results=(COMPLETE, again)), TERMS)
        assert (verdict.faults, verdict.repeats) == ((), 1)

    def test_an_abstain_with_its_reason_accounts_for_a_participant(self) -> None:
        abstain = replace(ANSWERS[2], label=None, reason="overloaded")
        result = replace(PARTIAL, outcome="complete", at=START + 30, missing={"p3": "overloaded"})
        assert not columns(replace(GOOD, responses=(*ANSWERS[:2], abstain), results=(result,)))

    def test_a_query_that_nothing_can_change_may_be_decided_early(self) -> None:
        same = tuple(replace(answer, label=1) for answer in ANSWERS[:2])
        decided = replace(PARTIAL, outcome="decided", at=START + 30, label=1, shares=(0.0, 1.0, 0))
        history = replace(GOOD, responses=(*same, ANSWERS[2]), results=(decided,))
        assert not columns(history)

    @pytest.mark.parametrize("label", [1, 0])
    def test_what_was_decided_early_may_be_said_with_more_answers_but_not_otherwise(
        self, label: int
    ) -> None:
        answers = tuple(replace(answer, label=1) for answer in ANSWERS)
        decided = replace(PARTIAL, outcome="decided", at=START + 30, label=1, shares=(0.0, 1.0, 0))
        later = replace(COMPLETE, at=START + 900, label=label, shares=(0.0, 1.0, 0.0))
        verdict = check(replace(GOOD, responses=answers, results=(decided, later)), TERMS)
        assert (len(verdict.faults), verdict.repeats) == ((0, 1) if label == 1 else (1, 0))

    def test_a_query_that_came_after_its_deadline_is_owed_nothing(self) -> None:
        stale = replace(QUERY, at=DEADLINE + 1)
        verdict = check(replace(GOOD, queries=(stale,), responses=(), results=()), TERMS)
        assert (verdict.queries, verdict.faults) == (0, ())


class TestWhatIsWrong:
    def test_an_answer_that_came_late_may_not_count(self) -> None:
        late = replace(ANSWERS[2], at=DEADLINE + 1)
        history = replace(GOOD, responses=(*ANSWERS[:2], late))
        assert columns(history) == [Column.CONTRADICTION]

    def test_only_what_a_participant_said_first_may_count(self) -> None:
        # It answered anew after a crash, with other noise: the shares are the second answer's.
        again = replace(ANSWERS[2], at=START + 200, label=0, event="again")
        result = replace(COMPLETE, shares=(2 / 3, THIRD, 0.0))
        history = replace(GOOD, responses=(*ANSWERS, again), results=(result,))
        assert columns(history) != []
        assert not columns(replace(history, results=(COMPLETE,)))

    def test_an_answer_to_another_event_does_not_count(self) -> None:
        other = replace(ANSWERS[2], digest="other")
        history = replace(GOOD, responses=(*ANSWERS[:2], other))
        assert columns(history) == [Column.CONTRADICTION]

    def test_a_contributor_that_is_not_in_the_shares_is_found(self) -> None:
        result = replace(COMPLETE, shares=(0.5, 0.5, 0.0))
        assert columns(replace(GOOD, results=(result,))) == [Column.CONTRADICTION]

    def test_shares_of_somebody_who_is_no_contributor_are_found(self) -> None:
        result = replace(PARTIAL, shares=(THIRD, THIRD, THIRD))
        history = replace(GOOD, responses=ANSWERS[:2], results=(result,))
        assert columns(history) == [Column.CONTRADICTION]

    def test_a_second_result_that_differs_is_a_contradiction(self) -> None:
        history = replace(GOOD, results=(COMPLETE, PARTIAL))
        assert columns(history) == [Column.CONTRADICTION]

    def test_a_reason_that_was_never_given_is_found(self) -> None:
        result = replace(PARTIAL, missing={"p3": "late"}, outcome="complete")
        history = replace(GOOD, responses=ANSWERS[:2], results=(result,))
        assert columns(history) == [Column.CONTRADICTION]

    def test_closing_before_the_deadline_is_found(self) -> None:
        early = replace(PARTIAL, at=START + 100)
        history = replace(GOOD, responses=ANSWERS[:2], results=(early,))
        assert columns(history) == [Column.CONTRADICTION]

    @pytest.mark.parametrize("outcome", ["complete", "decided", "no_quorum"])
    def test_an_outcome_must_go_with_who_is_in_the_result(self, outcome: str) -> None:
        result = replace(PARTIAL, outcome=outcome)
        history = replace(GOOD, responses=ANSWERS[:2], results=(result,))
        assert columns(history) == [Column.CONTRADICTION]

    def test_a_good_query_is_not_rejected(self) -> None:
        result = Result("q", "d", START + 5, "rejected")
        assert columns(replace(GOOD, results=(result,))) == [Column.CONTRADICTION]
        assert not columns(replace(GOOD, results=(replace(result, reason="overloaded"),)))

    def test_a_client_that_has_no_room_says_so_and_sends_nothing(self) -> None:
        assert not columns(replace(GOOD, told=(Told("unsent", "rejected", None),)))
        for told in (Told("unsent", "partial", 0), Told("q", "rejected", None)):
            assert columns(replace(GOOD, told=(told,))) == [Column.CONTRADICTION]

    def test_a_result_of_no_query_is_found(self) -> None:
        stranger = replace(COMPLETE, query="other")
        assert columns(replace(GOOD, results=(COMPLETE, stranger))) == [Column.CONTRADICTION]

    def test_a_client_is_told_what_the_topic_says_first(self) -> None:
        assert not columns(replace(GOOD, told=(Told("q", "complete", 0),)))
        assert not columns(replace(GOOD, told=(Told("q", None, None),)))
        for told in (Told("q", "complete", 1), Told("q", "partial", 0)):
            assert columns(replace(GOOD, told=(told,))) == [Column.CONTRADICTION]

    def test_a_client_is_told_once_of_every_query(self) -> None:
        told = Told("q", "complete", 0)
        assert columns(replace(GOOD, told=(told, told))) == [Column.CONTRADICTION]
        assert columns(replace(GOOD, untold=1)) == [Column.CONTRADICTION]


class TestCharges:
    def test_a_ledger_holds_at_least_what_the_answers_cost(self) -> None:
        assert not columns(replace(GOOD, reserved=dict.fromkeys(MEMBERS, 8)))
        assert columns(replace(GOOD, reserved={"p1": 7})) == [Column.CONTRADICTION]

    def test_every_answer_costs_also_one_that_came_late_or_second(self) -> None:
        again = replace(ANSWERS[0], at=DEADLINE + 5, event="again")
        history = replace(GOOD, responses=(*ANSWERS, again))
        assert columns(replace(history, reserved={"p1": 15})) == [Column.CONTRADICTION]
        assert not columns(replace(history, reserved={"p1": 16}))

    def test_the_same_bytes_again_cost_once(self) -> None:
        history = replace(GOOD, responses=(*ANSWERS, replace(ANSWERS[0], at=START + 90)))
        assert not columns(replace(history, reserved={"p1": 8}))


class TestTime:
    def test_a_result_past_the_bound_is_late(self) -> None:
        bound = DEADLINE + TERMS.bound_ms
        assert not columns(replace(GOOD, results=(replace(COMPLETE, at=bound),)))
        late = replace(GOOD, results=(replace(COMPLETE, at=bound + 1),))
        assert columns(late) == [Column.LATE]
        assert check(late, TERMS).worst_ms == TERMS.bound_ms + 1

    def test_the_time_in_which_everything_was_down_does_not_count(self) -> None:
        down = (Span(START - 1_000, DEADLINE + 500), Span(DEADLINE + 5_500, START + 60_000))
        result = replace(COMPLETE, at=DEADLINE + 7_000)
        assert lateness(QUERY, result, down) == 2_000
        assert not columns(replace(GOOD, served=down, results=(result,)))

    def test_a_query_has_had_its_time_after_the_bound_in_service(self) -> None:
        down = (Span(START, DEADLINE + 500), Span(DEADLINE + 5_500, START + 60_000))
        assert not settled_by(QUERY, down, 2_000, DEADLINE + 7_000)
        assert settled_by(QUERY, down, 2_000, DEADLINE + 7_001)

    @given(
        cuts=st.lists(st.integers(0, 9_000), max_size=8),
        came=st.integers(0, 9_000),
    )
    def test_no_more_time_counts_than_passed(self, cuts: list[int], came: int) -> None:
        cuts = sorted(cuts)
        pairs = zip(cuts[::2], cuts[1::2], strict=False)
        served = [Span(DEADLINE + start, DEADLINE + end) for start, end in pairs]
        result = replace(COMPLETE, at=DEADLINE + came)
        assert 0 <= lateness(QUERY, result, served) <= came
