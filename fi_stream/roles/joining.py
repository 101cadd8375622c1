"""What the aggregator does with each record: verify it, and tell the join of its partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.admission import forgotten_at, refuse_query
from fi_stream.aggregation.answers import answered_by, open_half, open_response, unread
from fi_stream.aggregation.early import certain
from fi_stream.aggregation.facts import Asked, Key
from fi_stream.aggregation.join import Join
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Protection
from fi_stream.privacy.compatibility import may_leave_simplex
from fi_stream.transport.catalogue import catalogue
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fi_stream.aggregation.facts import Settled
    from fi_stream.events.header import Ask, EventType
    from fi_stream.roles.leading import Leading
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Gate, Verified
    from fi_stream.transport.port import Record

    Step = Callable[[Join, Verified], Iterable[Settled]]

MOST_OPEN = 200_000
"""Queries that one process keeps open; one more is rejected as `overloaded`."""

_BEGINNING = Instant(0.0)


class Joining:
    """The joins of the partitions that this process owns.

    While `catching_up`, what is read has happened already: copies are expected, and no answer is
    too late for a query that is still to be read.
    """

    def __init__(
        self, seat: Seat, gate: Gate, tally: Tally, leading: Leading | None = None
    ) -> None:
        self._seat = seat
        self._leading = leading
        self._gate = gate
        self._tally = tally
        policy = seat.federation.policy
        self._noised = may_leave_simplex(policy.form, policy.rules, policy.protections)
        self._results: dict[int, int] = {}
        self._touched: dict[tuple[int, Key], None] = {}
        self._room = MOST_OPEN
        self.joins: dict[int, Join] = {}
        self.catching_up = False

    def begin(self, results: Mapping[int, int]) -> None:
        """Own these partitions from now on; what was known of any is read again.

        Args:
            results: of each partition, the offset from which its results are read.
        """
        quorum = self._seat.federation.policy.quorum
        self.joins = {number: Join(quorum) for number in results}
        self._results = dict(results)
        if self._leading is not None:
            self._leading.begin(results)
        self.catching_up = True

    def take(self, records: list[Record]) -> list[Settled]:
        """What these records settle by themselves."""
        topics = catalogue()
        settled: list[Settled] = []
        self._room = MOST_OPEN - sum(join.open for join in self.joins.values())
        # A result says that its query is settled: it must not wait behind that query.
        steps: tuple[tuple[str, EventType, Step], ...] = (
            (topics.results.name, "result", self._result),
            (topics.queries.name, "query", self._query),
            (topics.responses.name, "response", self._response),
        )
        for topic, kind, take in steps:
            for record in records:
                if record.source.topic != topic:
                    continue
                event = self._gate.admit(record, kind)
                join = self.joins.get(record.source.number)
                if isinstance(event, Refusal):
                    self._refused(event, record)
                elif event is not None and join is not None:
                    settled += take(join, event)
        for record, refusal in self._gate.expired(self._seat.clock.monotonic()):
            self._refused(refusal, record)
        return settled + self._decided()

    def _decided(self) -> list[Settled]:
        """Settle the queries that the answers of this poll made certain: one rule call for all."""
        touched, self._touched = self._touched, {}
        if not self._seat.federation.policy.early_exit:
            return []
        found = [
            (self.joins[number], candidate)
            for number, key in touched
            if (candidate := self.joins[number].candidate(key)) is not None
        ]
        sure = certain([candidate for _, candidate in found], noised=self._noised)
        return [
            join.decide(candidate)
            for (join, candidate), is_sure in zip(found, sure, strict=True)
            if is_sure
        ]

    def _query(self, join: Join, event: Verified) -> Iterable[Settled]:
        header, record = event.header, event.record
        asked = Asked(
            header.sender,
            event.digest,
            header.ask.kept(),
            header.roster,
            event.federation.participants,
            record.offset,
            self._results[record.source.number],
        )
        ends = self._ends(event)
        refusal = refuse_query(header.ask, event.federation, record.at)
        if refusal is None and self._room <= 0:
            refusal = Refusal(Reason.OVERLOADED, f"{MOST_OPEN} queries are open")
        if refusal is not None:
            rejected = join.reject(asked, refusal.reason, ends)
            if isinstance(rejected, Refusal):
                again = rejected.reason is Reason.DUPLICATE
                self._refused(rejected if again else refusal, record)
                return []
            self._refused(refusal, record)
            return [rejected]
        hop = self._seat.federation.policy.limits.hop_ms
        if header.ask.protection == Protection.SECAGG:
            hop *= 2  # to the helper, and from there to the client
        closes = self._seat.clock.local_time_of(BrokerMillis(header.ask.deadline - hop))
        before = join.open
        settled, refused = join.query(asked, closes, ends)
        self._room -= join.open - before
        self._touch(header.ask, asked.key)
        for one in refused:
            self._refused(one, record)
        return [settled] if settled else []

    def _response(self, join: Join, event: Verified) -> Iterable[Settled]:
        header, record = event.header, event.record
        reply = header.reply
        if reply is None:
            return []
        federation, ask = self._seat.federation, header.ask
        if ask.protection not in federation.policy.protections:
            self._refused(Refusal(Reason.PROTECTION_NOT_ALLOWED, ask.protection), record)
            return []
        key, answered = (reply.client, ask.query), answered_by(event, reply)
        ends = self._ends(event)
        now = _BEGINNING if self.catching_up else self._seat.clock.monotonic()
        refusal = join.refuse_response(key, answered, ends, now)
        if refusal is not None:
            self._refused(refusal, record)
            return []
        classes = len(federation.task.classes)
        if answered.protection is Protection.TRUSTED:
            form = federation.policy.form
            given, refusal = open_response(event, reply, form, classes, noised=self._noised)
        elif answered.protection is Protection.SECAGG:
            given, refusal = open_half(event, reply, classes)
        else:
            given, refusal = unread(event, reply, event.federation.response_bytes(ask.rows))
        if refusal is not None:
            self._refused(refusal, record)
        settled = join.response(key, given, ends)
        self._touch(header.ask, key)
        return [settled] if settled else []

    def _touch(self, ask: Ask, key: Key) -> None:
        """Look at the query for an early exit, where its answers can be read here."""
        if ask.protection == Protection.TRUSTED:
            self._touched[ask.partition, key] = None

    def _result(self, join: Join, event: Verified) -> Iterable[Settled]:
        header, record = event.header, event.record
        if not self.catching_up:  # else queries that are older than this one are still to be read
            self._results[record.source.number] = record.offset + 1
        if header.reply is not None:
            asked = Asked(
                header.reply.client,
                header.reply.digest,
                header.ask,
                header.roster,
                event.federation.participants,
            )
            join.settled_elsewhere(asked, self._ends(event))
            if self._leading is not None:
                self._leading.result(record.source.number, asked.key)
        return []

    def _ends(self, event: Verified) -> Instant:
        """When a copy of the query would be refused by itself, as far behind as we are reading."""
        clock = self._seat.clock
        forgotten = forgotten_at(event.header.ask, self._seat.federation)
        behind = max(0, clock.now() - event.record.at)
        return clock.local_time_of(BrokerMillis(forgotten + 2 * behind))

    def _refused(self, refusal: Refusal, record: Record) -> None:
        if not (self.catching_up and refusal.reason in (Reason.DUPLICATE, Reason.LATE)):
            self._tally.refused(refusal, record)
