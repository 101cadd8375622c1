"""The aggregator: reads queries, responses and results, joins them, and sends each outcome once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from fi_stream.aggregation.admission import forgotten_at, refuse_query
from fi_stream.aggregation.answers import open_response
from fi_stream.aggregation.join import Answered, Asked, Join
from fi_stream.aggregation.results import result_payloads
from fi_stream.errors import TopicError
from fi_stream.events.header import Reply
from fi_stream.events.payloads import frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.roles.keys import Keys
from fi_stream.roles.labels import tool_labels
from fi_stream.roles.runtime import background, interruptible
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.tally import Tally
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Group, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fi_stream.aggregation.join import Settled
    from fi_stream.events.header import Ask, EventType
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import Instant

    Step = Callable[[Join, Verified], Iterable[Settled]]

_log = structlog.get_logger("aggregator")

IDLE = 0.25
"""Longest wait for records, in seconds, when no query is open."""

WAITING = 0.01
"""The same while an event waits for its grant, or we wait for partitions."""


async def run_aggregator(
    file: Path | str, stop: asyncio.Event, give_up_after: float = GIVE_UP_AFTER
) -> None:
    """Join answers until asked to stop; `give_up_after` is for a broker that is down at start.

    Raises:
        FiStreamError: a file, the topics or the broker is not as it must be.
    """
    async with AsyncExitStack() as resources:
        async with interruptible(stop):  # a broker that is down is waited for
            taking = take_seat(Role.AGGREGATOR, file, give_up_after)
            seat = await resources.enter_async_context(taking)
        tally = Tally("aggregator")
        keys = Keys(seat, tally)
        await keys.announce()
        topics = catalogue()
        what = Group(
            seat.group,
            (topics.queries.name, topics.responses.name, topics.results.name),
            Start.END,
            paused=True,
        )
        async with seat.transport.reader(what) as reader:
            aggregator = Aggregator(seat, keys, tally, reader)
            works = {
                "aggregator.grants": keys.read_grants(),
                "aggregator.announce": keys.keep_announcing(),
            }
            async with background(works):
                await aggregator.run(stop)
        outcomes = dict(aggregator.outcomes)
        _log.info("stopped", member=seat.settings.id, outcomes=outcomes, refused=tally.counts())


class Aggregator:
    """One process's share of the partitions: a join for each, and the loop that feeds them."""

    def __init__(self, seat: Seat, keys: Keys, tally: Tally, reader: Reader) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._reader = reader
        self._joins: dict[int, Join] = {}
        self._since = seat.clock.now()
        self.outcomes: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Read, join, send, until asked to stop."""
        await self._keys.caught_up.wait()
        while not stop.is_set():
            await self._follow_assignment()
            records = await self._reader.poll(self._patience())
            await self._send(self._take(self._keys.take_released() + records))
            await asyncio.sleep(0)  # whatever comes in, the keys and the heartbeats go on

    def _patience(self) -> float:
        """Seconds until the next query is due, at most."""
        now = self._seat.clock.monotonic()
        due = [when for join in self._joins.values() if (when := join.next_due()) is not None]
        unassigned = not self._joins
        most = WAITING if self._keys.gate.waiting or unassigned else IDLE
        return max(0.0, min(most, min(due) - now)) if due else most

    def _take(self, records: list[Record]) -> list[Settled]:
        """Everything that these records and the time settle."""
        topics = catalogue()
        settled: list[Settled] = []
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
                event = self._keys.gate.admit(record, kind)
                join = self._joins.get(record.source.number)
                if isinstance(event, Refusal):
                    self._tally.refused(event, record)
                elif event is not None and join is not None:
                    settled += take(join, event)
        now = self._seat.clock.monotonic()
        for join in self._joins.values():
            settled += join.due(now)
        for record, refusal in self._keys.gate.expired(now):
            self._tally.refused(refusal, record)
        return settled

    def _query(self, join: Join, event: Verified) -> Iterable[Settled]:
        header = event.header
        if self._too_late(event):
            return []
        asked = Asked(header.sender, event.digest, header.ask)
        ends = self._ends(header.ask)
        refusal = refuse_query(header.ask, self._seat.federation, event.record.at)
        if refusal is not None:
            self._tally.refused(refusal, event.record)
            rejected = join.reject(asked, refusal.reason, ends)
            return [] if isinstance(rejected, Refusal) else [rejected]
        hop = self._seat.federation.policy.limits.hop_ms
        closes = self._seat.clock.local_time_of(BrokerMillis(header.ask.deadline - hop))
        settled, refused = join.query(asked, closes, ends)
        for one in refused:
            self._tally.refused(one, event.record)
        return [settled] if settled else []

    def _response(self, join: Join, event: Verified) -> Iterable[Settled]:
        header = event.header
        reply = header.reply
        if reply is None or self._too_late(event):
            return []
        federation = self._seat.federation
        key = (reply.client, header.ask.query)
        answered = Answered(header.sender, reply.digest, event.record.at)
        ends = self._ends(header.ask)
        refusal = join.refuse_response(key, answered, ends, self._seat.clock.monotonic())
        if refusal is not None:
            self._tally.refused(refusal, event.record)
            return []
        form, classes = federation.policy.form, len(federation.task.classes)
        given, refusal = open_response(event, reply, form, classes)
        if refusal is not None:
            self._tally.refused(refusal, event.record)
        settled = join.response(key, given, ends)
        return [settled] if settled else []

    def _result(self, join: Join, event: Verified) -> Iterable[Settled]:
        header = event.header
        if header.reply is not None:
            asked = Asked(header.reply.client, header.reply.digest, header.ask)
            join.settled_elsewhere(asked, self._ends(header.ask))
        return []

    def _too_late(self, event: Verified) -> bool:
        """Whether nobody waits any more; what was there before we came is not worth counting."""
        if self._seat.clock.now() < event.header.ask.deadline:
            return False
        if event.record.at >= self._since:
            refusal = Refusal(Reason.LATE, f"a {event.header.type} read after its deadline")
            self._tally.refused(refusal, event.record)
        return True

    async def _send(self, settled: list[Settled]) -> None:
        """Decide all these queries in one pass and publish their results."""
        if not settled:
            return
        topic, task = catalogue().results.name, self._seat.federation.task.hash
        events = []
        for one, payload in zip(settled, result_payloads(settled), strict=True):
            asked = one.asked
            reply = Reply(client=asked.client, digest=asked.digest, kind="result")
            sealed = self._keys.epoch(asked.client).seal(asked.ask, reply, frame(payload))
            target = Partition(topic, asked.ask.partition)
            labels = tool_labels("result", task, asked.ask, outcome=one.outcome)
            events.append(Outgoing(target, asked.ask.query, sealed.value, labels))
            self.outcomes[one.outcome] += 1
        latest = max(one.asked.ask.deadline for one in settled)
        await self._seat.publish(events, until=BrokerMillis(latest))

    async def _follow_assignment(self) -> None:
        """Take up newly assigned partitions once their past is known; drop those that went."""
        assigned = self._reader.assignment_changed()
        if assigned is None:
            return
        numbers = _owned(assigned)
        self._joins = {number: self._joins.get(number) or self._join() for number in numbers}
        await self._recover(assigned)

    async def _recover(self, assigned: frozenset[Partition]) -> None:
        """Read again what may still matter: first all results, so that nothing is settled twice."""
        if not assigned:
            return
        limits = self._seat.federation.policy.limits
        since = self._seat.clock.now() - 2 * limits.max_deadline_ms - limits.max_skew_ms
        await self._reader.seek_to_time(assigned, BrokerMillis(since))
        results = [p for p in assigned if p.topic == catalogue().results.name]
        ends = await self._reader.ends(results)
        self._reader.resume(results)
        while True:
            at = await self._reader.starts()
            if all(at.get(partition, end) >= end for partition, end in ends.items()):
                break
            await self._send(self._take(await self._reader.poll(WAITING)))
        self._reader.resume(assigned)
        _log.info("ready", member=self._seat.settings.id, partitions=sorted(self._joins))

    def _join(self) -> Join:
        federation = self._seat.federation
        return Join(federation.participants, federation.policy.quorum)

    def _ends(self, ask: Ask) -> Instant:
        """When a copy of the query would be refused by itself."""
        return self._seat.clock.local_time_of(forgotten_at(ask, self._seat.federation))


def _owned(assigned: frozenset[Partition]) -> set[int]:
    """The partition numbers of which all three topics are ours.

    Raises:
        TopicError: the topics were assigned apart.
    """
    by_topic: defaultdict[str, set[int]] = defaultdict(set)
    for partition in assigned:
        by_topic[partition.topic].add(partition.number)
    sets = list(by_topic.values())
    if any(numbers != sets[0] for numbers in sets):
        raise TopicError(
            f"queries, responses and results were assigned apart: {dict(by_topic)}. "
            "Run `fi-stream topics apply` so that they have equally many partitions."
        )
    return sets[0] if sets else set()
