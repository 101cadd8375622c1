"""The participant: answers queries with its own model, sealed and noised, or says why not."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import structlog

from fi_stream.aggregation.admission import refuse_query
from fi_stream.events.payloads import Abstain, QueryPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.federation.rows import decode_rows
from fi_stream.roles.answering import Answering, Asked
from fi_stream.roles.dead_letters import DeadLetters
from fi_stream.roles.health import watched
from fi_stream.roles.keys import Keys
from fi_stream.roles.metrics import Latency
from fi_stream.roles.noise import noise_drawn_ahead
from fi_stream.roles.pace import Pace, Wanted, choose
from fi_stream.roles.responding import needs, response
from fi_stream.roles.runtime import background, interruptible
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.tally import Tally
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Group, Partition, Start
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fi_stream.events.payloads import Answer
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.parting import Parted
    from fi_stream.roles.progress import Progress
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record

_log = structlog.get_logger("participant")

IDLE = 0.25
"""Longest wait for queries, in seconds."""

WAITING = 0.01
"""The same while a query waits for its grant."""

COMMIT_EVERY = 1.0
"""Seconds between two commits of what is answered."""


async def run_participant(
    file: Path | str, stop: asyncio.Event, give_up_after: float = GIVE_UP_AFTER
) -> None:
    """Answer queries until asked to stop; `give_up_after` is for a broker that is down at start.

    Raises:
        FiStreamError: a file, the model, the topics or the broker is not as it must be.
    """
    async with AsyncExitStack() as resources:
        watch = await resources.enter_async_context(watched(Role.PARTICIPANT, file))
        async with interruptible(stop):  # a broker that is down is waited for
            taking = take_seat(Role.PARTICIPANT, file, give_up_after)
            seat = await resources.enter_async_context(taking)
        dead = DeadLetters(seat)
        tally = Tally("participant", dead)
        source = resources.enter_context(noise_drawn_ahead(seat.settings, watch.board))
        answering = resources.enter_context(Answering(seat.settings, seat.federation, source))
        keys = Keys(seat, tally)
        watch.seated(seat, keys, tally)
        what = Group(seat.group, (catalogue().queries.name,), Start.END)
        async with seat.transport.reader(what) as reader:
            watch.reading(reader)
            participant = Participant(seat, keys, tally, answering, watch.progress)
            participant.show_on(watch.board)
            works = {
                "participant.grants": keys.read_grants(),
                "participant.announce": keys.keep_announcing(stop),
                "participant.dead": dead.keep_writing(),
            }
            async with background(works):
                await participant.run(reader, stop)
        answers = participant.answers
        _log.info("stopped", member=seat.settings.id, answers=answers, refused=tally.counts())


class Participant:
    """The loop of one process: everything that one poll returns is one forward pass."""

    def __init__(
        self, seat: Seat, keys: Keys, tally: Tally, answering: Answering, progress: Progress
    ) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._answering = answering
        self._progress = progress
        self._latency = Latency()
        self._pace = Pace()
        self._abstains = 0
        self._seen: dict[tuple[str, bytes], int] = {}
        self.answers = 0

    def show_on(self, board: Board) -> None:
        """Show what this loop counts."""
        board.show("queries", lambda: self.answers)
        board.show_each(
            "responses",
            lambda: {"answer": self.answers - self._abstains, "abstain": self._abstains},
        )
        board.show_latency("answer_seconds", self._latency)

    async def run(self, reader: Reader, stop: asyncio.Event) -> None:
        """Read, answer, and commit what was answered, until asked to stop."""
        clock = self._seat.clock
        await self._keys.ready.wait()
        with _model_thread() as off_the_loop:
            self._progress.doing("waiting for partitions")
            holds = False
            answered: dict[Partition, int] = {}
            next_commit = clock.monotonic() + COMMIT_EVERY
            most = self._seat.settings.limits.in_flight
            while not stop.is_set():
                changed = reader.assignment_changed()
                if changed is not None:
                    holds = bool(changed)
                    await self._take_up(reader, changed)
                patience = IDLE if holds and not self._keys.gate.waiting else WAITING
                self._progress.polled(clock.monotonic())
                # What waited for its grant is in hand, too: together they are never more.
                room = most - len(self._keys.released)
                records = await reader.poll(patience, room) if room > 0 else []
                released = self._keys.take_released(most - len(records))
                await self._answer(released + records, off_the_loop)
                answered |= {record.source: record.offset + 1 for record in records}
                if answered and clock.monotonic() >= next_commit:
                    await reader.commit(answered)
                    answered, next_commit = {}, clock.monotonic() + COMMIT_EVERY
                await asyncio.sleep(0)  # whatever comes in, the keys and the heartbeats go on
            await reader.commit(answered)

    async def _take_up(self, reader: Reader, partitions: frozenset[Partition]) -> None:
        """Be ready once it is fixed where to read: what is asked from then on counts."""
        self._progress.assigned(partitions)
        if partitions:
            await reader.starts()
            self._progress.doing(None)
            _log.info("ready", member=self._seat.settings.id, **self._answering.facts())

    async def _answer(self, records: Sequence[Record], off_the_loop: ThreadPoolExecutor) -> None:
        self._forget_past()
        asked = [query for record in records if (query := self._admit(record)) is not None]
        while asked:
            began = self._seat.clock.monotonic()
            in_time, overloaded = self._sort_out(asked)
            # Before the pass, so that they are in time: whoever asked need not wait for us.
            await self._respond(overloaded)
            first, asked = self._next(in_time)
            if first:
                await self._pass(first, off_the_loop)
                if rows := sum(map(self._answering.rows, first)):
                    self._pace.took(rows, self._seat.clock.monotonic() - began)

    def _next(self, asked: list[Asked]) -> tuple[list[Asked], list[Asked]]:
        """The next pass, and what is left: all is one pass, unless that is far from usual.

        How long such a one takes is not known: as many as are, those due first, go first and tell.
        """
        if sum(map(self._answering.rows, asked)) <= self._pace.most:
            return asked, []
        ordered = sorted(asked, key=lambda query: query.event.header.ask.deadline)
        most = max(
            1, bisect_right(list(accumulate(map(self._answering.rows, ordered))), self._pace.most)
        )
        return ordered[:most], ordered[most:]

    async def _pass(self, asked: Sequence[Asked], off_the_loop: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(off_the_loop, self._answering.answer, asked)
        for fault in self._answering.take_faults():
            self._tally.refused(fault)
        await self._respond(
            [
                (query, self._abstain(query, answer) if isinstance(answer, Refusal) else answer)
                for query, answer in zip(asked, answers, strict=True)
            ]
        )

    def _sort_out(self, asked: Sequence[Asked]) -> tuple[list[Asked], list[tuple[Asked, Abstain]]]:
        """Which queries can be answered in time, and an abstain for each of the others."""
        now, hop = self._seat.clock.now(), self._seat.federation.policy.limits.hop_ms
        wanted = [
            Wanted(
                self._answering.rows(query), (query.event.header.ask.deadline - hop - now) / 1000
            )
            for query in asked
        ]
        chosen = choose(wanted, self._pace)
        taken = sum(wanted[place].rows for place in chosen)
        overloaded = []
        for place, query in enumerate(asked):
            if place not in chosen:
                seconds = self._pace.seconds(taken or wanted[place].rows)
                why = f"{wanted[place].left:.3f} s are left, and this pass takes {seconds:.3f} s"
                refusal = Refusal(Reason.OVERLOADED, why)
                retry = 1 + int(seconds * 1000)
                overloaded.append((query, self._abstain(query, refusal, retry)))
        if not chosen:
            self._pace.gave_up()
        return [asked[place] for place in sorted(chosen)], overloaded

    async def _respond(self, responses: Sequence[tuple[Asked, Answer | Parted | Abstain]]) -> None:
        """Publish these, the same bytes until they are acknowledged or of no use any more."""
        if not responses:
            return
        latest = BrokerMillis(max(query.event.header.ask.deadline for query, _ in responses))
        own = self._keys.own
        await self._keys.prepare((need for query, _ in responses for need in needs(query)), latest)
        # Without the grant nobody could read it: the log says that the broker does not take it.
        events = [
            response(own, query, payload, self._answering.version)
            for query, payload in responses
            if all(map(own.holds, needs(query)))
        ]
        self.answers += len(events)
        if await self._seat.publish(events, until=latest):
            now = self._seat.clock.now()
            for query, _ in responses:
                self._latency.took((now - query.event.record.at) / 1000)

    def _admit(self, record: Record) -> Asked | None:
        event = self._keys.gate.admit(record, "query")
        if event is None:
            return None
        refusal = event if isinstance(event, Refusal) else self._refuse(event)
        if refusal is not None or isinstance(event, Refusal):
            if refusal is not None:
                self._tally.refused(refusal, record)
            return None
        return self._open(event)

    def _refuse(self, event: Verified) -> Refusal | None:
        """Why a verified query is not answered; one that is will not be answered again."""
        ask = event.header.ask
        refusal = refuse_query(ask, event.federation, event.record.at)
        if refusal is not None:
            return refusal
        if self._seat.clock.now() >= ask.deadline:
            return Refusal(Reason.LATE, "read after its deadline")
        identity = (event.header.sender, ask.query)
        if identity in self._seen:
            return Refusal(Reason.REPLAYED, f"a query of {event.header.sender}")
        # Longer than its deadline, by as much as our reading of the broker's clock may step back.
        self._seen[identity] = ask.deadline + self._seat.federation.policy.limits.max_skew_ms
        return None

    def _open(self, event: Verified) -> Asked:
        payload = event.open(QueryPayload)
        if isinstance(payload, Refusal):
            return Asked(event, payload)
        task, ask = self._seat.federation.task, event.header.ask
        return Asked(event, decode_rows(payload.inputs, ask.rows, task))

    def _abstain(self, query: Asked, refusal: Refusal, retry_ms: int | None = None) -> Abstain:
        self._abstains += 1
        self._tally.refused(refusal, query.event.record)
        return Abstain(reason=refusal.reason.code, retry_ms=retry_ms)

    def _forget_past(self) -> None:
        """Let go of what is past its deadline: a copy of it is refused as late by itself."""
        for record, refusal in self._keys.gate.expired(self._seat.clock.monotonic()):
            self._tally.refused(refusal, record)
        now = self._seat.clock.now()
        while self._seen and next(iter(self._seen.values())) < now:
            del self._seen[next(iter(self._seen))]


@contextmanager
def _model_thread() -> Iterator[ThreadPoolExecutor]:
    """One thread, not waited for at the end: nothing is in hand then, or it hangs."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="model")
    try:
        yield thread
    finally:
        thread.shutdown(wait=False)
