"""The aggregator: reads queries, responses and results, joins them, and sends each outcome once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.aggregation.window import EachClient
from fi_stream.errors import BrokerError
from fi_stream.events.header import Reply
from fi_stream.events.payloads import frame
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role
from fi_stream.roles.central import central_noise, payloads_of
from fi_stream.roles.dead_letters import DeadLetters
from fi_stream.roles.health import watched
from fi_stream.roles.joining import Joining
from fi_stream.roles.keys import Keys
from fi_stream.roles.labels import tool_labels
from fi_stream.roles.leading import Leading
from fi_stream.roles.metrics import Latency
from fi_stream.roles.own_epochs import Need
from fi_stream.roles.owning import joined_topics, owned
from fi_stream.roles.recorder import recorder
from fi_stream.roles.runtime import background, interruptible
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.tally import Tally
from fi_stream.roles.vitals import Checkup
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Group, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fi_stream.aggregation.facts import Settled
    from fi_stream.roles.central import CentralNoise
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.progress import Progress
    from fi_stream.roles.recorder import Recorder
    from fi_stream.roles.seat import Seat
    from fi_stream.secagg.proposal import Propose
    from fi_stream.transport.port import Reader


_log = structlog.get_logger("aggregator")

IDLE = 0.25
"""Longest wait for records, in seconds, when no query is open."""

WAITING = 0.01
"""The same while an event waits for its grant, or we wait for partitions."""

DRAINING = 0.002
"""The same while answers are read that came before a deadline which has just passed."""

COMMIT_EVERY = 1.0
"""Seconds between two commits of the marks."""

MOST_AT_ONCE = 500
"""Queries of a partition that are settled in one go: then the keys and the heartbeats go on."""


async def run_aggregator(
    file: Path | str,
    stop: asyncio.Event,
    give_up_after: float = GIVE_UP_AFTER,
    record: Path | None = None,
) -> None:
    """Join answers until asked to stop; `give_up_after` is for a broker that is down at start.

    `record` is a new file for what is settled, if the policy allows that.

    Raises:
        FiStreamError: a file, the topics or the broker is not as it must be.
    """
    async with AsyncExitStack() as resources:
        watch = await resources.enter_async_context(watched(Role.AGGREGATOR, file))
        async with interruptible(stop):  # a broker that is down is waited for
            taking = take_seat(Role.AGGREGATOR, file, give_up_after)
            seat = await resources.enter_async_context(taking)
        central = resources.enter_context(central_noise(seat, watch.board))
        recording = resources.enter_context(recorder(record, seat.federation))
        dead = DeadLetters(seat)
        tally = Tally("aggregator", dead)
        keys = Keys(seat, tally)
        watch.seated(seat, keys, tally)
        what = Group(seat.group, joined_topics(seat.federation), Start.BEGINNING, paused=True)
        async with seat.transport.reader(what) as reader:
            watch.reading(reader)
            aggregator = Aggregator(seat, keys, tally, reader, watch.progress, central, recording)
            aggregator.show_on(watch.board)
            works = {
                "aggregator.grants": keys.read_grants(),
                "aggregator.announce": keys.keep_announcing(stop),
                "aggregator.dead": dead.keep_writing(),
            }
            if aggregator.checkup is not None:
                works["aggregator.checkup"] = aggregator.checkup.keep_looking()
            async with background(works):
                await aggregator.run(stop)
        outcomes = dict(aggregator.outcomes)
        _log.info("stopped", member=seat.settings.id, outcomes=outcomes, refused=tally.counts())


class Aggregator:
    """The loop of one process: read, join, send; and what it must know before it may do so."""

    def __init__(  # noqa: PLR0913, PLR0917  (all that it is made of)
        self,
        seat: Seat,
        keys: Keys,
        tally: Tally,
        reader: Reader,
        progress: Progress,
        central: CentralNoise | None = None,
        recording: Recorder | None = None,
    ) -> None:
        self._seat = seat
        self._keys = keys
        self._reader = reader
        self._leading = Leading(seat, keys, tally)
        self._joining = Joining(seat, keys.gate, tally, self._leading)
        self._draining: dict[int, Drain] = {}
        self._next_commit = seat.clock.monotonic()
        self.outcomes: Counter[str] = Counter()
        self._progress = progress
        self._topics = joined_topics(seat.federation)
        self._central = central
        self._recording = recording
        self._latency = Latency()
        self._learnt = EachClient(seat.federation.policy)
        self.checkup = None
        if seat.settings.health.port is not None and central is None:
            self.checkup = Checkup(seat)

    def show_on(self, board: Board) -> None:
        """Show what this loop counts."""
        board.show_each("outcomes", lambda: self.outcomes)
        board.show("open_queries", lambda: sum(j.open for j in self._joining.joins.values()))
        board.show("proposed", lambda: self._leading.proposed)
        board.show("proposed_queries", lambda: self._leading.open)
        board.show("orphans", lambda: sum(j.orphans for j in self._joining.joins.values()))
        board.show_latency("settle_seconds", self._latency)
        if self.checkup is not None:
            self.checkup.show_on(board)

    async def run(self, stop: asyncio.Event) -> None:
        """Read, join, send, and commit what need not be read again, until asked to stop."""
        await self._keys.ready.wait()
        self._progress.doing("waiting for partitions")
        while not stop.is_set():
            await self._follow_assignment(stop)
            self._progress.polled(self._seat.clock.monotonic())
            records = await self._reader.poll(self._patience())
            records = self._keys.take_released() + records
            await self._send(self._joining.take(records))
            await self._send(await self._close_due())
            await self._publish(*self._leading.take(records))
            due = self._leading.due(self._seat.clock.monotonic(), MOST_AT_ONCE)
            await self._publish(due, [])
            if self._seat.clock.monotonic() >= self._next_commit:
                await self._commit()
            await asyncio.sleep(0)  # whatever comes in, the keys and the heartbeats go on
        await self._commit()

    def _patience(self) -> float:
        """Seconds until the next query is due, at most."""
        if self._draining:
            return DRAINING
        now = self._seat.clock.monotonic()
        joins = self._joining.joins.values()
        due = [when for join in joins if (when := join.next_close()) is not None]
        if (decision := self._joining.next_decision) is not None:
            due.append(decision)
        if (next_due := self._leading.next_due()) is not None:
            due.append(next_due)
        most = WAITING if self._keys.gate.waiting or not joins else IDLE
        return max(0.0, min([most, *(when - now for when in due)]))

    async def _close_due(self) -> list[Settled]:
        """Settle what is due, once all is read that was appended until then (DESIGN 8.3)."""
        now = self._seat.clock.monotonic()
        joins = self._joining.joins
        settled: list[Settled] = []
        fresh = []
        for number, join in joins.items():
            closes = join.next_close()
            if closes is None or closes > now:
                settled += join.due(now)  # nothing closes: it only forgets
            elif number not in self._draining:
                fresh.append(number)
        if fresh:
            topic = catalogue().responses.name
            ends = await self._ends([Partition(topic, number) for number in fresh])
            self._draining |= {each.number: Drain(now, end) for each, end in ends.items()}
        if self._draining:
            at = await self._reader.starts()
            for number, drain in list(self._draining.items()):
                read = at.get(Partition(catalogue().responses.name, number), 0)
                if read >= drain.end:
                    closed = joins[number].due(drain.moment, MOST_AT_ONCE)
                    settled += closed
                    if len(closed) < MOST_AT_ONCE:
                        del self._draining[number]
        return settled

    async def _ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Where these end now; nothing while the broker does not say."""
        try:
            return await self._reader.ends(partitions)
        except BrokerError as error:
            _log.warning("broker.silent", error=str(error))
            return {}

    async def _send(self, settled: list[Settled]) -> None:
        """Settle these queries: tell their results, or propose sets of answers to the helper."""
        await self._publish(*self._leading.sort(settled))

    async def _publish(self, settled: list[Settled], proposed: list[Propose]) -> None:
        """Decide all these queries in one pass; publish their results, however long it takes."""
        if proposed:
            latest = max(one.settled.asked.ask.deadline for one in proposed)
            await self._seat.publish(self._leading.events(proposed), BrokerMillis(latest))
        if not settled:
            return
        topic, task = catalogue().results.name, self._seat.federation.task.hash
        events = []
        settled = [self._informed(one) for one in settled]
        payloads = await payloads_of(settled, self._central)
        for one, payload in zip(settled, payloads, strict=True):
            asked = one.asked
            reply = Reply(client=asked.client, digest=asked.digest, kind="result")
            need = Need(asked.roster, asked.ask.protection, asked.client)
            sealed = self._keys.own.find(need).seal(asked.ask, reply, frame(payload))
            target = Partition(topic, asked.ask.partition)
            labels = tool_labels("result", task, asked.ask, outcome=payload.outcome)
            events.append(Outgoing(target, asked.ask.query, sealed.value, labels))
            self.outcomes[payload.outcome] += 1
        if await self._seat.publish(events):
            now = self._seat.clock.now()
            for one in settled:
                self._latency.took((now - one.asked.ask.created) / 1000)
            if self._recording is not None:
                await self._recording.settled(settled, payloads)

    def _informed(self, one: Settled) -> Settled:
        """A query with what past ones say of its participants, where their answers are read here.

        Where the aggregator adds the noise, nothing is learnt: what it saw is for nobody.
        """
        if one.asked.ask.protection != Protection.TRUSTED or self._central is not None:
            return one
        informed = self._learnt.settle(one)
        if self.checkup is not None:
            self.checkup.settled(informed)
        return informed

    async def _commit(self) -> None:
        """Keep, for whoever reads these partitions next, where to begin; its effects are known."""
        self._next_commit = Instant(self._seat.clock.monotonic() + COMMIT_EVERY)
        if self._joining.catching_up or self._keys.released:
            return  # what is still to be read, or was just given its grant, holds no mark
        at = await self._reader.starts()
        topics = catalogue()
        offsets: dict[Partition, int] = {}
        for number, join in self._joining.joins.items():
            marks, led = join.marks(), self._leading.marks(number)
            for topic, held in (
                (topics.queries.name, (marks.queries, led.queries)),
                (topics.responses.name, (marks.responses, led.responses)),
                (topics.results.name, (marks.results, led.results)),
                (topics.proposals.name, ()),
            ):
                partition = Partition(topic, number)
                if partition in at:
                    known = (at[partition], self._keys.gate.oldest_waiting(partition), *held)
                    offsets[partition] = min(offset for offset in known if offset is not None)
        await self._reader.commit(offsets)

    async def _follow_assignment(self, stop: asyncio.Event) -> None:
        """Take up newly assigned partitions once their past is known; drop those that went."""
        assigned = self._reader.assignment_changed()
        while assigned is not None and not stop.is_set():
            at = await self._reader.starts()
            topic = catalogue().results.name
            ours = owned(assigned, self._topics)
            assigned = assigned if ours else frozenset()
            begun = {number: at.get(Partition(topic, number), 0) for number in ours}
            self._joining.begin(begun)
            self._progress.assigned(assigned)
            self._progress.doing("catching up")
            self._draining = {}
            changed = await self._catch_up(assigned, stop)
            if not self._joining.catching_up:
                self._progress.doing(None)
            if not self._joining.catching_up and assigned:
                numbers = sorted(self._joining.joins)
                _log.info("ready", member=self._seat.settings.id, partitions=numbers)
            assigned = changed

    async def _catch_up(
        self, assigned: frozenset[Partition], stop: asyncio.Event
    ) -> frozenset[Partition] | None:
        """Read from the marks to the end: results, so that nothing is settled twice, then the rest.

        Returns:
            The next assignment, if it changed meanwhile: all begins again.
        """
        ends: Mapping[Partition, int] = {}
        while assigned and not ends and not stop.is_set():
            ends = await self._ends(assigned)
        topics = catalogue()
        first = topics.results.name
        for topic in (first, *(name for name in self._topics if name != first)):
            partitions = [each for each in assigned if each.topic == topic]
            self._reader.resume(partitions)
            while not stop.is_set():
                changed = self._reader.assignment_changed()
                if changed is not None:
                    return changed
                at = await self._reader.starts()
                if all(at.get(each, 0) >= ends.get(each, 0) for each in partitions):
                    break
                self._progress.polled(self._seat.clock.monotonic())
                records = await self._reader.poll(WAITING)
                await self._send(self._joining.take(records))
                await self._publish(*self._leading.take(records))
        self._joining.catching_up = stop.is_set()  # what is not read yet holds no mark
        return None


@dataclass(frozen=True, slots=True)
class Drain:
    """Queries that were due at `moment` settle when responses are read up to `end`."""

    moment: Instant
    end: int
