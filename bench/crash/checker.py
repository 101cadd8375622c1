"""Whether a history keeps what is promised; pure functions over values.

Answers identify themselves: under `soft`, each participant is a class of its own, so the shares in
a result tell who was counted, and how often.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING

from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.crash.history import History, Query, Response, Result, Span, Terms

_MOST_COUNTS = 3
_EQUAL = 1e-6


class Column(StrEnum):
    """The column of the report that a fault is counted in."""

    LOST = "lost"
    DOUBLED = "doubled"
    LATE = "late"
    CONTRADICTION = "contradictions"


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was not kept, and for which query; None when it is about a member."""

    column: Column
    query: str | None
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker says of one schedule.

    `worst_ms` is how long after its deadline the latest result came, time without service taken
    off; `repeats` are later results that say the same as the first.
    """

    queries: int
    outcomes: Mapping[str, int]
    repeats: int
    worst_ms: int
    faults: tuple[Fault, ...]

    def count(self, column: Column) -> int:
        """How many faults of this kind there are."""
        return sum(fault.column is column for fault in self.faults)


def check(history: History, terms: Terms) -> Verdict:
    """Hold a history against the terms."""
    queries = {query.id: query for query in history.queries if query.at <= query.deadline}
    responses = _first_responses(history.responses, queries)
    results: defaultdict[str, list[Result]] = defaultdict(list)
    faults: list[Fault] = []
    for result in history.results:
        query = queries.get(result.query)
        if query is None or query.digest != result.digest:
            what = "a result of a query event that is not there, or came after its deadline"
            faults.append(Fault(Column.CONTRADICTION, result.query, what))
        else:
            results[result.query].append(result)
    outcomes: Counter[str] = Counter()
    repeats, worst = 0, 0
    for query in queries.values():
        found = results[query.id]
        if not found:
            faults.append(Fault(Column.LOST, query.id, "no result, although the topics were read"))
            continue
        first, *later = found
        outcomes[first.outcome] += 1
        delay = lateness(query, first, history.served)
        worst = max(worst, delay)
        if delay > terms.bound_ms:
            what = f"its result came {delay} ms after its deadline, and {terms.bound_ms} are stated"
            faults.append(Fault(Column.LATE, query.id, what))
        faults += _explained(query, first, responses[query.id], terms)
        repeats += sum(_same(first, other) for other in later)
        faults += [
            Fault(Column.CONTRADICTION, query.id, f"a second result differs: {first} then {other}")
            for other in later
            if not _same(first, other)
        ]
    faults += _told(history, results)
    faults += _charged(history)
    return Verdict(len(queries), dict(outcomes), repeats, worst, tuple(faults))


def broken(what: str) -> Verdict:
    """Of a schedule that could not be run to its end, such as when a process ended by itself."""
    return Verdict(0, {}, 0, 0, (Fault(Column.CONTRADICTION, None, what),))


def lateness(query: Query, result: Result, served: Sequence[Span]) -> int:
    """Milliseconds of service between a query's deadline and its result; 0 when it was in time."""
    return sum(
        max(0, min(span.end, result.at) - max(span.start, query.deadline)) for span in served
    )


def settled_by(query: Query, served: Sequence[Span], bound_ms: int, now: int) -> bool:
    """Whether a query has had all the time that its result may take."""
    left = sum(max(0, min(span.end, now) - max(span.start, query.deadline)) for span in served)
    return left > bound_ms


def _first_responses(
    responses: Sequence[Response], queries: Mapping[str, Query]
) -> defaultdict[str, dict[str, Response]]:
    """Of each query, what each participant said first and in time: only that may count."""
    first: defaultdict[str, dict[str, Response]] = defaultdict(dict)
    for response in responses:
        query = queries.get(response.query)
        if query is None or response.digest != query.digest or response.at > query.deadline:
            continue
        first[query.id].setdefault(response.member, response)
    return first


def _explained(
    query: Query, result: Result, said: Mapping[str, Response], terms: Terms
) -> Iterator[Fault]:
    """What the log does not explain of one result."""
    if result.outcome == Outcome.REJECTED:
        if result.reason != Reason.OVERLOADED:  # that happens on a machine that others use, too
            what = "rejected, although nothing was wrong with it"
            yield Fault(Column.CONTRADICTION, query.id, what)
        return
    twice = [m for m, times in Counter(result.contributors).items() if times > 1]
    if twice:
        yield Fault(Column.DOUBLED, query.id, f"{', '.join(twice)} contributed more than once")
    unknown = [
        member
        for member in result.contributors
        if member not in said or said[member].label is None or member in result.missing
    ]
    if unknown:
        what = f"{', '.join(unknown)} contributed without a first answer in time"
        yield Fault(Column.CONTRADICTION, query.id, what)
    elif result.contributors:
        yield from _counted(query, result, said)
    yield from _missed(query, result, said, terms)
    wanted = _outcomes(result, terms)
    if result.outcome not in wanted:
        what = f"{result.outcome}, where {' or '.join(sorted(wanted))} fits who is in it"
        yield Fault(Column.CONTRADICTION, query.id, what)
    by_deadline = result.outcome in (Outcome.PARTIAL, Outcome.NO_QUORUM)
    silent = any(reason is None for reason in result.missing.values())
    if by_deadline and silent and result.at < query.deadline - terms.edge_ms:
        early = query.deadline - result.at
        what = f"{result.outcome} {early} ms before its deadline, and somebody could still answer"
        yield Fault(Column.CONTRADICTION, query.id, what)


def _counted(query: Query, result: Result, said: Mapping[str, Response]) -> Iterator[Fault]:
    """Whether every contributor, and nobody else, is in the shares once."""
    labels = [said[member].label for member in result.contributors]
    fits = [
        counts
        for counts in product(range(_MOST_COUNTS + 1), repeat=len(labels))
        if any(counts) and _shares_fit(labels, counts, result.shares)
    ]
    if (1,) * len(labels) in fits:
        return
    if fits and all(max(counts) > 1 for counts in fits):
        times = dict(zip(result.contributors, min(fits, key=sum), strict=True))
        yield Fault(Column.DOUBLED, query.id, f"counted {times}, by shares {result.shares}")
        return
    who = dict(zip(result.contributors, labels, strict=True))
    what = f"shares {result.shares} are not those of {who}, each once"
    yield Fault(Column.CONTRADICTION, query.id, what)


def _shares_fit(
    labels: Sequence[int | None], counts: Sequence[int], shares: Sequence[float]
) -> bool:
    total = sum(counts)
    wanted = [0.0] * len(shares)
    for label, count in zip(labels, counts, strict=True):
        if label is None or label >= len(shares):
            return False
        wanted[label] += count / total
    return all(abs(one - other) < _EQUAL for one, other in zip(wanted, shares, strict=True))


def _missed(
    query: Query, result: Result, said: Mapping[str, Response], terms: Terms
) -> Iterator[Fault]:
    """Who is missing although it spoke in time, or missing for a reason that it did not give."""
    for member, reason in result.missing.items():
        response = said.get(member)
        if reason is not None and (response is None or response.reason != reason):
            what = f"{member} is missing as {reason}, and said {response}"
            yield Fault(Column.CONTRADICTION, query.id, what)
        ahead = 0 if response is None else query.deadline - response.at
        closed = result.outcome != Outcome.DECIDED and ahead >= terms.edge_ms
        if reason is None and response is not None and closed:
            what = f"{result.outcome}: {member} is missing as silent, and spoke {ahead} ms ahead"
            yield Fault(Column.CONTRADICTION, query.id, what)


def _outcomes(result: Result, terms: Terms) -> set[str]:
    """The outcomes that go with who is in a result, who is missing, and how far ahead one is."""
    silent = sum(reason is None for reason in result.missing.values())
    answers = len(terms.participants) - len(result.missing)
    if answers < terms.quorum:
        return {Outcome.NO_QUORUM}
    if not silent:
        return {Outcome.COMPLETE}
    votes = sorted((share * answers for share in result.shares), reverse=True)
    decided = len(votes) > 1 and votes[0] - votes[1] > silent + _EQUAL
    return {Outcome.DECIDED, Outcome.PARTIAL} if decided else {Outcome.PARTIAL}


def _same(first: Result, other: Result) -> bool:
    if Outcome.DECIDED in (first.outcome, other.outcome):
        # How many answers it took depends on where reading began; what they say does not.
        return first.label == other.label is not None
    return (first.outcome, first.label, first.shares, sorted(first.contributors)) == (
        other.outcome,
        other.label,
        other.shares,
        sorted(other.contributors),
    )


def _told(history: History, results: Mapping[str, Sequence[Result]]) -> Iterator[Fault]:
    """Where a client was told something else than the first result on the topic."""
    asked = {query.id for query in history.queries}
    outcomes: Counter[str] = Counter()
    for told in history.told:
        outcomes[told.query] += 1
        if outcomes[told.query] > 1:
            yield Fault(Column.CONTRADICTION, told.query, "its client was told twice")
        found = results.get(told.query, ())
        unsent = told.outcome == Outcome.REJECTED and told.query not in asked
        if told.outcome is None or unsent:
            continue
        if not found or (found[0].outcome, found[0].label) != (told.outcome, told.label):
            what = f"its client was told {told}, and the topic says {found[:1]}"
            yield Fault(Column.CONTRADICTION, told.query, what)
    if history.untold:
        what = f"a client that was not killed was told nothing of {history.untold} of its queries"
        yield Fault(Column.CONTRADICTION, None, what)


def _charged(history: History) -> Iterator[Fault]:
    """Whether each ledger holds at least what the participant's answers cost."""
    answers = {
        (response.member, response.event): response.cost
        for response in history.responses
        if response.label is not None
    }
    costs: Counter[str] = Counter()
    for (member, _), cost in answers.items():
        costs[member] += cost
    for member, reserved in history.reserved.items():
        if reserved < costs[member]:
            what = f"the ledger of {member} holds {reserved}, and its answers cost {costs[member]}"
            yield Fault(Column.CONTRADICTION, None, what)
