"""The join: which answers belong to which query, and the moment each query is settled (DESIGN 8).

Pure: what happened and the time go in, what to do comes out. There is no clock and no broker here.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fi_stream.aggregation.facts import Answered, Asked, Candidate, Given, Key, Marks, Settled
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fi_stream.values import Instant, MemberId

MOST_ORPHANS = 4096
"""Responses of one participant that may wait for their queries."""

STALE = frozenset({Reason.LATE, Reason.CLOCK_SKEW})
"""Reasons to refuse a query that any old query gets when it is replayed."""


@dataclass(slots=True)
class _Entry:
    """A query from the first that is heard of it until nothing of it can be in time any more.

    `until` is when its timer fires: to settle it, or to forget it. `digest` and `deadline` are the
    query's once it has come; `asked` and `given` last while it is open, `heard` is who answered.
    """

    until: Instant
    ends: Instant
    asked: Asked | None = None
    digest: bytes = b""
    deadline: int = 0
    settled: bool = False
    heard: tuple[str, ...] = ()
    given: dict[str, Given] = field(default_factory=dict)


class Join:
    """The open queries, and the moment each one is settled."""

    def __init__(self, quorum: int) -> None:
        self._quorum = quorum
        self._entries: dict[Key, _Entry] = {}
        self._timers: list[tuple[Instant, Key]] = []
        self._closing: list[tuple[Instant, Key]] = []
        self._opened: deque[tuple[int, Key]] = deque()
        self._held: deque[tuple[int, Key]] = deque()
        self._orphans: Counter[str] = Counter()
        self._spared: set[bytes] = set()
        self._open = 0

    @property
    def open(self) -> int:
        """Queries that are waiting for answers."""
        return self._open

    @property
    def orphans(self) -> int:
        """Responses whose query has not come."""
        return self._orphans.total()

    def query(
        self, asked: Asked, closes: Instant, ends: Instant
    ) -> tuple[Settled | None, list[Refusal]]:
        """Open a query; answers that came before it count.

        Args:
            asked: the verified query.
            closes: when to settle it with what there is.
            ends: when it may be forgotten: until then copies of it and of its answers are told
                apart, so this is later than any copy can be read and still seem in time.

        Returns:
            The settled query, if all its answers had come already; and what was refused: the
            query itself if it is known, or early answers to some other event of the same id.
        """
        entry = self._entries.get(asked.key)
        if entry is not None and entry.digest:
            same = entry.digest == asked.digest
            return None, [Refusal(Reason.DUPLICATE if same else Reason.REPLAYED, asked.client)]
        entry, early = self._adopt(asked, closes, ends)
        self._open += 1
        self._spared.discard(asked.ask.query)
        heapq.heappush(self._closing, (closes, asked.key))
        self._opened.append((asked.offset, asked.key))
        refused = []
        for given in early:
            refusal = _unfit(entry, given.answered)
            if refusal is None:
                entry.given[given.answered.member] = given
            else:
                refused.append(refusal)
        return self._complete(asked, entry), refused

    def refuse_response(
        self, key: Key, answer: Answered, ends: Instant, now: Instant
    ) -> Refusal | None:
        """Why a response is not worth opening; changes nothing.

        Args:
            key: the query that the response names.
            answer: who answers which query event, and when that was appended.
            ends: when its query may be forgotten: without it, the response waits that long.
            now: the time.
        """
        entry = self._entries.get(key)
        if entry is None or not entry.digest:
            return self._refuse_orphan(entry, answer, ends, now)
        if answer.member in entry.given or answer.member in entry.heard:
            return Refusal(Reason.DUPLICATE, f"{answer.member} has answered")
        refusal = _unfit(entry, answer)
        if refusal is None and entry.settled:
            return Refusal(Reason.LATE, f"{answer.member}: the query is settled")
        return refusal

    def response(self, key: Key, given: Given, ends: Instant) -> Settled | None:
        """Add an answer that was not refused; settle the query if nothing more can come."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(ends, ends)
            heapq.heappush(self._timers, (ends, key))
        member = given.answered.member
        entry.given[member] = given
        self._held.append((given.answered.offset, key))
        if entry.asked is None:
            self._orphans[member] += 1
            if ends > entry.until:
                # Whoever came first, with however short a deadline, does not end it for the others.
                self._set_timer(key, entry, ends)
            return None
        return self._complete(entry.asked, entry)

    def candidate(self, key: Key) -> Candidate | None:
        """The query, if it is open and its answers may outweigh all that are missing.

        Fewer answers than missing ones never do: none of them is worth more than one of those.
        """
        entry = self._entries.get(key)
        if entry is None or entry.asked is None:
            return None
        if entry.asked.ask.protection != Protection.TRUSTED:
            return None  # what the answers say is not known here
        answers = _answers(entry)
        missing = len(entry.asked.participants) - len(entry.given)
        if len(answers) < self._quorum or len(answers) <= missing:
            return None
        return Candidate(entry.asked, answers, missing)

    def decide(self, candidate: Candidate) -> Settled:
        """Settle an open query early: whatever is still missing cannot change its label."""
        asked = candidate.asked
        return self._close(asked, self._entries[asked.key], Outcome.DECIDED)

    def settled_elsewhere(self, asked: Asked, ends: Instant) -> None:
        """Another aggregator's result came first: drop the query, refuse what is still to come."""
        entry = self._entries.get(asked.key)
        if entry is None or not entry.digest:
            entry, _ = self._adopt(asked, ends, ends)
            entry.asked, entry.settled = None, True
        elif not entry.settled:
            self._settle(asked, entry)

    def reject(self, asked: Asked, reason: Reason, ends: Instant) -> Settled | Refusal:
        """Settle a query at once that will not be answered.

        One that is stale (`late`, `clock_skew`) is refused without a result: nobody waits for it,
        and each replay of an old query would make another.
        """
        if reason in STALE:
            return Refusal(reason, asked.client)
        entry = self._entries.get(asked.key)
        if entry is not None and entry.digest:
            return Refusal(Reason.DUPLICATE, asked.client)
        entry, _ = self._adopt(asked, ends, ends)
        self._open += 1
        return self._close(asked, entry, Outcome.REJECTED, reason)

    def spare(self, asked: Asked, clients: Iterable[MemberId]) -> None:
        """Let the answers to a rejected query be passed over by its id alone.

        Not if any of `clients` asked something else under that id: whoever copies the id of another
        must not cost it its answers.
        """
        query = asked.ask.query
        if not any((each, query) in self._entries for each in clients if each != asked.client):
            self._spared.add(query)

    def spared(self, query: bytes | None) -> bool:
        """Whether whatever answers this id is of no use to anybody."""
        return query in self._spared

    def due(self, now: Instant, most: int | None = None) -> list[Settled]:
        """Settle the queries whose time has come, or the first `most`; forget what is over."""
        settled: list[Settled] = []
        while self._timers and self._timers[0][0] <= now and len(settled) != most:
            when, key = heapq.heappop(self._timers)
            entry = self._entries.get(key)
            if entry is None or entry.until != when:
                continue
            if entry.asked is not None:
                settled.append(self._close(entry.asked, entry, self._outcome(entry, "deadline")))
            else:
                self._orphans.subtract(entry.given.keys())
                self._spared.discard(key[1])
                del self._entries[key]
        return settled

    def next_close(self) -> Instant | None:
        """When the next query closes with what there is."""
        while self._closing:
            closes, key = self._closing[0]
            entry = self._entries.get(key)
            if entry is not None and not entry.settled and entry.until == closes:
                return closes
            heapq.heappop(self._closing)
        return None

    def marks(self) -> Marks:
        """The lowest offsets of what is still open or waits for its query."""
        oldest: Asked | None = None
        while self._opened and oldest is None:
            offset, key = self._opened[0]
            entry = self._entries.get(key)
            asked = None if entry is None else entry.asked
            if asked is not None and asked.offset == offset:
                oldest = asked
            else:
                self._opened.popleft()
        while self._held and not self._holds(self._held[0][1]):
            self._held.popleft()
        return Marks(
            queries=oldest.offset if oldest else None,
            responses=self._held[0][0] if self._held else None,
            results=oldest.results if oldest else None,
        )

    def _adopt(self, asked: Asked, until: Instant, ends: Instant) -> tuple[_Entry, Sequence[Given]]:
        """A fresh entry for a query, and the answers that came before it."""
        before = self._entries.get(asked.key)
        early = list(before.given.values()) if before else []
        self._orphans.subtract(given.answered.member for given in early)
        entry = _Entry(until, ends, asked, asked.digest, asked.ask.deadline)
        self._entries[asked.key] = entry
        self._set_timer(asked.key, entry, until)
        return entry, early

    def _refuse_orphan(
        self, entry: _Entry | None, answer: Answered, ends: Instant, now: Instant
    ) -> Refusal | None:
        member = answer.member
        if ends <= now:
            return Refusal(Reason.LATE, f"{member}: past its deadline, without its query")
        if entry is not None and member in entry.given:
            return Refusal(Reason.DUPLICATE, f"{member} has answered")
        if self._orphans[member] >= MOST_ORPHANS:
            return Refusal(Reason.OVERLOADED, f"{member}: too many answers without queries")
        return None

    def _holds(self, key: Key) -> bool:
        entry = self._entries.get(key)
        return entry is not None and not entry.settled

    def _complete(self, asked: Asked, entry: _Entry) -> Settled | None:
        if len(entry.given) < len(asked.participants):
            return None
        return self._close(asked, entry, self._outcome(entry, "all"))

    def _outcome(self, entry: _Entry, why: Literal["all", "deadline"]) -> Outcome:
        answers = sum(given.counts for given in entry.given.values())
        if answers < self._quorum:
            return Outcome.NO_QUORUM
        return Outcome.COMPLETE if why == "all" else Outcome.PARTIAL

    def _close(
        self, asked: Asked, entry: _Entry, outcome: Outcome, reason: Reason | None = None
    ) -> Settled:
        given, answers = entry.given, _answers(entry)
        missing = {
            member: given[member].reason if member in given else None
            for member in sorted(asked.participants - answers.keys())
        }
        retry = {m: each.retry_ms for m, each in given.items() if each.retry_ms is not None}
        relayed = {m: given[m].relayed for m in sorted(given)}
        first = min((each.answered.offset for each in given.values()), default=None)
        self._settle(asked, entry)
        return Settled(
            asked,
            outcome,
            answers,
            missing,
            reason,
            retry,
            {m: event for m, event in relayed.items() if event is not None},
            first,
        )

    def _settle(self, asked: Asked, entry: _Entry) -> None:
        # Who answered stays known until the deadline; what they said does not, nor what was asked.
        self._open -= 1
        entry.settled = True
        entry.heard = tuple(entry.given)
        entry.asked, entry.given = None, {}
        self._set_timer(asked.key, entry, entry.ends)

    def _set_timer(self, key: Key, entry: _Entry, when: Instant) -> None:
        entry.until = when
        heapq.heappush(self._timers, (when, key))


def _answers(entry: _Entry) -> dict[MemberId, Given]:
    """The answers to a query, in order of member id; abstains are none."""
    given = entry.given
    return {m: given[m] for m in sorted(given) if given[m].counts}


def _unfit(entry: _Entry, answer: Answered) -> Refusal | None:
    """Why an answer does not belong to the query event it was found under, or came too late."""
    if entry.asked is not None and answer.member not in entry.asked.participants:
        return Refusal(Reason.WRONG_ROLE, f"{answer.member} is not to answer this query")
    if answer.digest != entry.digest:
        return Refusal(Reason.WRONG_QUERY, f"{answer.member} answers another event")
    if entry.asked is not None:
        ask = entry.asked.ask
        theirs = (answer.rows, answer.protection, answer.rule)
        if theirs != (ask.rows, ask.protection, ask.rule):
            what = f"{answer.rows} rows under {answer.protection} by {answer.rule}"
            return Refusal(Reason.WRONG_QUERY, f"{answer.member} answers {what}")
    if answer.at > entry.deadline:
        return Refusal(Reason.LATE, f"{answer.member}: {answer.at - entry.deadline} ms late")
    return None
