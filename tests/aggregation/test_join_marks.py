"""The marks of a join: nothing that is open or waits lies before them, and all else does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fi_stream.aggregation.facts import Answered, Asked, Given
from fi_stream.aggregation.join import Join
from fi_stream.events.header import Ask
from fi_stream.events.refusals import Refusal
from fi_stream.values import BrokerMillis, Instant

MEMBERS = ("p1", "p2")
FAR = Instant(1_000.0)


def asked(number: int, offset: int = 0, results: int = 0) -> Asked:
    ask = Ask(
        query=number.to_bytes(16, "big"),
        partition=0,
        rule="soft",
        rows=1,
        protection="trusted",
        created=0,
        deadline=10_000,
    )
    return Asked("alice", number.to_bytes(32, "big"), ask, 1, frozenset(MEMBERS), offset, results)


def abstains(number: int, member: str, offset: int) -> Given:
    answered = Answered(member, asked(number).digest, BrokerMillis(1), offset)
    return Given(answered, "m", None)


def test_with_nothing_open_there_is_nothing_to_read_again() -> None:
    marks = Join(1).marks()
    assert (marks.queries, marks.responses, marks.results) == (None, None, None)


def test_the_oldest_open_query_holds_the_marks_until_it_is_settled() -> None:
    join = Join(1)
    join.query(asked(1, offset=5, results=3), FAR, FAR)
    join.query(asked(2, offset=6, results=4), FAR, FAR)
    assert join.marks().queries == 5
    assert join.marks().results == 3
    join.response(asked(1).key, abstains(1, "p1", 20), FAR)
    join.response(asked(2).key, abstains(2, "p1", 21), FAR)
    assert join.marks().responses == 20
    assert join.response(asked(1).key, abstains(1, "p2", 22), FAR) is not None
    assert (join.marks().queries, join.marks().results, join.marks().responses) == (6, 4, 21)


def test_an_answer_without_its_query_holds_the_responses() -> None:
    join = Join(1)
    join.response(asked(1).key, abstains(1, "p1", 9), FAR)
    assert join.marks().responses == 9
    join.query(asked(1, offset=2), FAR, FAR)
    assert join.marks().responses == 9
    join.settled_elsewhere(asked(1), FAR)
    assert join.marks().responses is None


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(("query", "p1", "p2", "elsewhere"))),
        max_size=40,
    )
)
def test_marks_are_the_lowest_offsets_of_what_is_not_settled(events: list[tuple[int, str]]) -> None:
    join = Join(1)
    queries: dict[int, int] = {}
    responses: dict[int, list[int]] = {}
    settled: set[int] = set()
    for offset, (number, what) in enumerate(events):
        key = asked(number).key
        if what == "query":
            done, refused = join.query(asked(number, offset), FAR, FAR)
            if not refused:
                queries[number] = offset
            if done is not None:
                settled.add(number)
        elif what == "elsewhere":
            join.settled_elsewhere(asked(number, offset), FAR)
            settled.add(number)
        else:
            answer = abstains(number, what, offset)
            if not isinstance(
                join.refuse_response(key, answer.answered, FAR, Instant(0.0)), Refusal
            ):
                responses.setdefault(number, []).append(offset)
                if join.response(key, answer, FAR) is not None:
                    settled.add(number)
    marks = join.marks()
    assert marks.queries == min(
        (offset for number, offset in queries.items() if number not in settled), default=None
    )
    assert marks.responses == min(
        (o for number, held in responses.items() if number not in settled for o in held),
        default=None,
    )


def test_the_next_close_is_that_of_an_open_query_alone() -> None:
    join = Join(1)
    join.query(asked(1), Instant(1.0), FAR)
    join.query(asked(2), Instant(2.0), FAR)
    join.settled_elsewhere(asked(1), FAR)
    assert join.next_close() == 2.0
    assert [one.asked.ask.query[-1] for one in join.due(Instant(2.0))] == [2]
    assert join.next_close() is None
