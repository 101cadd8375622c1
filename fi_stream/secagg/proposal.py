"""The leader's queries from the moment a set of answers is proposed until a result is read.

Pure: what happened and the time go in, what to do comes out. One set is proposed, and one more if
the helper names members that it cannot open; then the deadline decides (DESIGN 9).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fi_stream.aggregation.facts import Marks, Settled
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.secagg.sets import set_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.aggregation.facts import Key
    from fi_stream.secagg.sets import ShareSet
    from fi_stream.values import Instant, MemberId

MOST_PROPOSALS: Final = 2
"""Sets proposed for one query by one leader."""


@dataclass(frozen=True, slots=True, eq=False)
class Propose:
    """A set to be proposed: the answers in `settled` are exactly those of its `members`."""

    settled: Settled
    members: ShareSet


@dataclass(slots=True)
class _Pending:
    """A query whose set was proposed; `until` is its deadline on the local clock."""

    settled: Settled
    digest: bytes
    proposals: int
    until: Instant


class Proposals:
    """The queries of one partition that have a proposed set and no result yet.

    Args:
        least: the fewest answers of which a sum may be asked: k_min, or the quorum if that is more.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._pending: dict[Key, _Pending] = {}
        self._timers: list[tuple[Instant, Key]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def settled(self, settled: Settled, until: Instant, now: Instant) -> Propose | Settled:
        """What to do with a query whose answers are joined.

        Args:
            settled: what the join says.
            until: its deadline on the local clock.
            now: the time.

        Returns:
            The set to propose; or the query with an outcome that needs no sum.
        """
        if settled.outcome in (Outcome.NO_QUORUM, Outcome.REJECTED):
            return settled
        if until <= now or len(settled.answers) < self._least:
            return _without_sum(settled)
        proposed = _proposed(settled)
        key = settled.asked.key
        self._pending[key] = _Pending(settled, set_digest(proposed.members), 1, until)
        heapq.heappush(self._timers, (until, key))
        return proposed

    def refused(
        self, key: Key, digest: bytes, bad: Mapping[MemberId, Reason], reason: Reason
    ) -> Propose | Settled | None:
        """What to do when the helper refuses a set.

        Args:
            key: the query.
            digest: of the refused set.
            bad: members that the helper cannot open, each with its reason.
            reason: why the set is refused.

        Returns:
            The same answers without the bad ones, once; no quorum, if that leaves too few; None
            when only the deadline can decide, or when it is not about what we proposed last.
        """
        pending = self._pending.get(key)
        if pending is None or pending.digest != digest:
            return None
        if reason is not Reason.BAD_SHARE or not bad or pending.proposals >= MOST_PROPOSALS:
            return None  # of another set the result is on its way; of none there may be one
        left = _without(pending.settled, bad)
        if len(left.answers) < self._least:
            del self._pending[key]
            return _without_sum(left)
        proposed = _proposed(left)
        pending.settled, pending.digest = left, set_digest(proposed.members)
        pending.proposals += 1
        return proposed

    def result(self, key: Key) -> None:
        """A result of the query was read: whatever was proposed, that one counts."""
        self._pending.pop(key, None)

    def due(self, now: Instant, most: int | None = None) -> list[Settled]:
        """The queries, or the first `most`, of which no result was read by their deadline."""
        over: list[Settled] = []
        while self._timers and self._timers[0][0] <= now and len(over) != most:
            until, key = heapq.heappop(self._timers)
            pending = self._pending.get(key)
            if pending is not None and pending.until == until:
                del self._pending[key]
                over.append(_without_sum(pending.settled))
        return over

    def next_due(self) -> Instant | None:
        """When the next query has waited long enough."""
        while self._timers:
            until, key = self._timers[0]
            pending = self._pending.get(key)
            if pending is not None and pending.until == until:
                return until
            heapq.heappop(self._timers)
        return None

    def marks(self) -> Marks:
        """From where to read again so that whoever comes after us can propose these."""
        settled = [pending.settled for pending in self._pending.values()]
        return Marks(
            queries=min((one.asked.offset for one in settled), default=None),
            responses=min((one.first for one in settled if one.first is not None), default=None),
            results=min((one.asked.results for one in settled), default=None),
        )


def _proposed(settled: Settled) -> Propose:
    members = tuple(
        (member, given.half.share)
        for member, given in sorted(settled.answers.items())
        if given.half is not None
    )
    return Propose(settled, members)


def _without(settled: Settled, bad: Mapping[MemberId, Reason]) -> Settled:
    answers = {m: given for m, given in settled.answers.items() if m not in bad}
    lost = {m: reason for m, reason in bad.items() if m in settled.answers}
    missing = dict(sorted({**settled.missing, **lost}.items()))
    return replace(settled, outcome=Outcome.PARTIAL, answers=answers, missing=missing)


def _without_sum(settled: Settled) -> Settled:
    return replace(settled, outcome=Outcome.NO_QUORUM)
