"""What the aggregator does with each record: verify it, and tell the join of its partition."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from fi_stream.aggregation.admission import forgotten_at, refuse_query
from fi_stream.aggregation.answers import answered_by, open_half, open_response, unread
from fi_stream.aggregation.early import certain
from fi_stream.aggregation.facts import Asked, Key
from fi_stream.aggregation.join import Join
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Protection
from fi_stream.roles.reading import reading_of
from fi_stream.transport.catalogue import catalogue
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fi_stream.aggregation.facts import Candidate, Settled
    from fi_stream.events.header import Ask, EventType
    from fi_stream.roles.leading import Leading
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Gate, Verified
    from fi_stream.transport.port import Partition, Record

    Step = Callable[[Join, Verified], Iterable[Settled]]

MOST_OPEN = 200_000
"""Queries that one process keeps open; one more is rejected as `overloaded`."""

INTERVAL = 0.25
"""Seconds: what is read late at every poll for so long is a backlog, and no burst or pause."""

_STALE = 4 * INTERVAL
"""Seconds after which a partition without records has no backlog."""

_LATER = 2
"""How many times as late a query's answers are read as the query itself: a backlog grows."""

_BEGINNING = Instant(0.0)


class Backlog:
    """How late the records of a partition are read: the least that any poll of an interval saw.

    The least, because a burst or a pause is soon caught up with, and a backlog stays.
    """

    def __init__(self) -> None:
        self._late = 0
        self._least = 0
        self._until = self._read = Instant(float("-inf"))

    def read(self, oldest: int, now: Instant) -> None:
        """The oldest record of one poll is so many milliseconds old."""
        if now > self._read + _STALE:
            self._late, self._least, self._until = 0, oldest, Instant(now + INTERVAL)
        elif now >= self._until:
            self._late = min(self._least, oldest)
            self._least, self._until = oldest, Instant(now + INTERVAL)
        self._least, self._read = min(self._least, oldest), now

    def late(self, now: Instant) -> int:
        """In milliseconds; nothing where nothing was read lately."""
        return self._late if now <= self._read + _STALE else 0


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
        self._reading = reading_of(seat.federation)
        self._results: dict[int, int] = {}
        self._touched: dict[tuple[int, Key], None] = {}
        self._certain: dict[tuple[int, Key], Instant] = {}
        self._room = MOST_OPEN
        self._backlogs: defaultdict[Partition, Backlog] = defaultdict(Backlog)
        self._late = 0
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
        self._backlogs.clear()
        self._certain.clear()

    def take(self, records: list[Record]) -> list[Settled]:
        """What these records settle by themselves."""
        topics = catalogue()
        settled: list[Settled] = []
        self._room = MOST_OPEN - sum(join.open for join in self.joins.values())
        self._look_behind(records)
        # A result says that its query is settled: it must not wait behind that query.
        steps: tuple[tuple[str, EventType, Step], ...] = (
            (topics.results.name, "result", self._result),
            (topics.queries.name, "query", self._query),
            (topics.responses.name, "response", self._response),
        )
        for topic, kind, take in steps:
            for record in records:
                join = self.joins.get(record.source.number)
                if record.source.topic != topic or (join and self._spared(join, record)):
                    continue
                event = self._gate.admit(record, kind)
                if isinstance(event, Refusal):
                    self._refused(event, record)
                elif event is not None and join is not None:
                    settled += take(join, event)
        for record, refusal in self._gate.expired(self._seat.clock.monotonic()):
            self._refused(refusal, record)
        return settled + self._decided()

    def _look_behind(self, records: list[Record]) -> None:
        if self.catching_up:
            return  # the past is old, however quickly it is read
        now, moment = self._seat.clock.now(), self._seat.clock.monotonic()
        limits = self._seat.federation.policy.limits
        longest = limits.max_deadline_ms + limits.max_skew_ms
        first = {record.source: record.at for record in reversed(records)}
        for source, at in first.items():
            if now - at <= longest:  # else a clock has stepped, or nobody waits for it any more
                self._backlogs[source].read(now - at, moment)
        self._late = max((each.late(moment) for each in self._backlogs.values()), default=0)

    def _too_far_behind(self, ask: Ask) -> Refusal | None:
        """Why a query cannot have its outcome in time, as late as we are reading.

        Rejected at once it costs us much less, so that those behind it are still in time.
        """
        hop, late = self._seat.federation.policy.limits.hop_ms, self._late
        left = ask.deadline - hop - self._seat.clock.now()
        if self.catching_up or late <= hop or left >= _LATER * late:
            return None
        return Refusal(Reason.OVERLOADED, f"{left} ms are left, and we read {late} ms late")

    def _spared(self, join: Join, record: Record) -> bool:
        """Whether this answers a query that was rejected unread: not worth a look, only a count."""
        if record.source.topic != catalogue().responses.name or not join.spared(record.key):
            return False
        self._tally.refused(Refusal(Reason.OVERLOADED, "its query was rejected"), record)
        return True

    @property
    def next_decision(self) -> Instant | None:
        """When the next query is settled that is certain already."""
        return next(iter(self._certain.values()), None)

    def _decided(self) -> list[Settled]:
        """Settle the queries that have been certain for a hop; see which others are by now.

        All that touched since the last poll go through one rule call. Answers that are on their way
        in that hop still count: most queries are complete, and answers travel in step.
        """
        now, touched = self._seat.clock.monotonic(), self._touched
        self._touched = {}
        policy = self._seat.federation.policy
        if not policy.early_exit or policy.gate:
            return []  # whom the gate leaves out is known when the query is decided, not before
        found = {
            place: candidate
            for place in touched
            if place not in self._certain and (candidate := self._candidate(place)) is not None
        }
        sure = certain(list(found.values()), noised=self._reading.noised, share=policy.weight_share)
        when = Instant(now + policy.limits.hop_ms / 1000)
        self._certain |= {place: when for place, yes in zip(found, sure, strict=True) if yes}
        settled = []
        while (due := self.next_decision) is not None and due <= now:
            number, _ = place = next(iter(self._certain))
            del self._certain[place]
            if (candidate := self._candidate(place)) is not None:
                settled.append(self.joins[number].decide(candidate))
        return settled

    def _candidate(self, place: tuple[int, Key]) -> Candidate | None:
        number, key = place
        join = self.joins.get(number)
        return None if join is None else join.candidate(key)

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
            event.federation.sizes,
        )
        ends = self._ends(event)
        refusal = refuse_query(header.ask, event.federation, record.at)
        if refusal is None and self._room <= 0:
            refusal = Refusal(Reason.OVERLOADED, f"{MOST_OPEN} queries are open")
        refusal = refusal or self._too_far_behind(header.ask)
        if refusal is not None:
            rejected = join.reject(asked, refusal.reason, ends)
            if isinstance(rejected, Refusal):
                again = rejected.reason is Reason.DUPLICATE
                self._refused(rejected if again else refusal, record)
                return []
            self._refused(refusal, record)
            if refusal.reason is Reason.OVERLOADED:
                join.spare(asked, event.federation.clients)
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
            given, refusal = open_response(event, reply, self._reading)
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
