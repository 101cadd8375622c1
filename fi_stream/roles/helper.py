"""The helper of secure sums: opens a proposed set, once for each query, and sends THE result.

It reads responses, of which it sees the seeds alone, and proposals. What it decides is
`secagg.release`'s; what it has decided is on disk before anybody hears of it (`secagg.store`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.federation.roster import Role
from fi_stream.roles.dead_letters import DeadLetters
from fi_stream.roles.health import watched
from fi_stream.roles.keys import Keys
from fi_stream.roles.owning import opened_topics, owned
from fi_stream.roles.releasing import Releasing
from fi_stream.roles.runtime import background, interruptible
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.tally import Tally
from fi_stream.secagg.store import Recorded, ReleaseStore
from fi_stream.transport.port import Group, Start
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.roles.metrics import Board
    from fi_stream.roles.progress import Progress
    from fi_stream.roles.seat import Seat
    from fi_stream.secagg.release import Ready, Refused
    from fi_stream.transport.port import Partition, Reader

_log = structlog.get_logger("helper")

IDLE: Final = 0.25
"""Longest wait for records, in seconds, when nothing is proposed."""

WAITING: Final = 0.01
"""The same while an event waits for its grant, or a proposal for its shares."""

COMMIT_EVERY: Final = 1.0
"""Seconds between two commits of what was read: for people who look, not for a restart."""

FORGET_EVERY: Final = 60.0
"""Seconds between two moves of the store's horizon."""

REMEMBERED: Final = 3_600_000
"""Milliseconds for which the store knows a query after all who read it have given it up."""


async def run_helper(
    file: Path | str, stop: asyncio.Event, give_up_after: float = GIVE_UP_AFTER
) -> None:
    """Open proposed sets until asked to stop; `give_up_after` is for a broker that is down.

    Raises:
        FiStreamError: a file, the store, the topics or the broker is not as it must be.
    """
    async with AsyncExitStack() as resources:
        watch = await resources.enter_async_context(watched(Role.HELPER, file))
        async with interruptible(stop):  # a broker that is down is waited for
            taking = take_seat(Role.HELPER, file, give_up_after)
            seat = await resources.enter_async_context(taking)
        store = resources.enter_context(_store(seat))
        dead = DeadLetters(seat)
        tally = Tally("helper", dead)
        keys = Keys(seat, tally)
        watch.seated(seat, keys, tally)
        what = Group(seat.group, opened_topics(), Start.BEGINNING, paused=True)
        async with seat.transport.reader(what) as reader:
            watch.reading(reader)
            helper = Helper(seat, keys, Releasing(seat, keys, tally), reader, store)
            helper.show_on(watch.board)
            works = {
                "helper.grants": keys.read_grants(),
                "helper.announce": keys.keep_announcing(stop),
                "helper.dead": dead.keep_writing(),
            }
            async with background(works):
                await helper.run(stop, watch.progress)
        told = dict(helper.told)
        _log.info("stopped", member=seat.settings.id, sums=told, refused=tally.counts())


class Helper:
    """The loop of one process: read, decide, record, send."""

    def __init__(
        self, seat: Seat, keys: Keys, releasing: Releasing, reader: Reader, store: ReleaseStore
    ) -> None:
        self._seat = seat
        self._keys = keys
        self._reader = reader
        self._store = store
        self._releasing = releasing
        self._unrecorded: list[Ready] = []
        self._next_commit = self._next_forget = seat.clock.monotonic()
        self.told: Counter[str] = Counter()

    def show_on(self, board: Board) -> None:
        """Show what this loop counts."""
        board.show_each("sums", lambda: self.told)
        board.show("held_shares", lambda: self._releasing.shares)
        board.show("open_queries", lambda: self._releasing.open)

    async def run(self, stop: asyncio.Event, progress: Progress) -> None:
        """Read and decide until asked to stop."""
        clock = self._seat.clock
        await self._keys.ready.wait()
        progress.doing("waiting for partitions")
        while not stop.is_set():
            changed = self._reader.assignment_changed()
            if changed is not None:
                progress.assigned(changed)
                await self._take_up(changed)
            progress.polled(clock.monotonic())
            records = await self._reader.poll(self._patience())
            at = await self._reader.starts()
            # Without a pause from here on: what was given its grant is taken before we decide.
            decided = self._releasing.take(self._keys.take_released() + records)
            await self._act([*self._releasing.decide(at), *decided])
            if self._releasing.partitions:
                lacking = "its store cannot be written" if self._unrecorded else None
                progress.doing(lacking)
            await self._look_after()
            await asyncio.sleep(0)  # whatever comes in, the keys and the heartbeats go on
        await self._reader.commit(await self._reader.starts())

    def _patience(self) -> float:
        busy = self._keys.gate.waiting or self._releasing.open or self._unrecorded
        return WAITING if busy or not self._releasing.partitions else IDLE

    async def _take_up(self, assigned: frozenset[Partition]) -> None:
        """Read again all that may still be open: what was recorded before is released again.

        A set that was recorded and not published finds the same verdict; of any other query that
        is over the deadline has passed, and of one whose result is there a copy is nothing new.
        """
        numbers = owned(assigned, opened_topics())
        self._releasing.begin(numbers)
        if not numbers:
            return
        limits = self._seat.federation.policy.limits
        back = limits.max_deadline_ms + 2 * limits.max_skew_ms
        while True:
            try:
                moment = BrokerMillis(max(0, self._seat.clock.now() - back))
                await self._reader.seek_to_time(assigned, moment)
                break
            except BrokerError as error:
                _log.warning("broker.silent", error=str(error))
                await asyncio.sleep(IDLE)
        self._reader.resume(assigned)
        _log.info("ready", member=self._seat.settings.id, partitions=sorted(numbers))

    async def _act(self, decided: list[Ready | Refused]) -> None:
        """Record what is to be released; only then tell anybody."""
        ready, refused = self._releasing.sort(decided, self._unrecorded)
        verdicts = await self._recorded(ready)
        self.told.update(verdict.value for verdict in verdicts)
        self.told.update("refused" for _ in refused)
        events = self._releasing.events(zip(ready, verdicts, strict=False), refused)
        if events:
            latest = max(deadline for deadline, _ in events)
            if await self._seat.publish([event for _, event in events], BrokerMillis(latest)):
                self._releasing.told([*ready[: len(verdicts)], *refused])

    async def _recorded(self, ready: list[Ready]) -> list[Recorded]:
        """What the store says of each set, once it is on disk; nothing if it cannot be written."""
        if not ready:
            self._unrecorded = []
            return []
        entries = [self._releasing.entry(one) for one in ready]
        try:
            verdicts = await asyncio.to_thread(self._store.record, entries)
        except ConfigError as error:
            if not self._unrecorded:
                _log.error("store.failed", error=str(error))
            self._unrecorded = ready
            return []
        if self._unrecorded:
            _log.info("store.back", sums=len(ready))
        self._unrecorded = []
        return verdicts

    async def _look_after(self) -> None:
        """From time to time: commit, and forget what is long over."""
        clock = self._seat.clock
        now = clock.monotonic()
        self._releasing.forget(now)
        if now >= self._next_commit:
            self._next_commit = Instant(now + COMMIT_EVERY)
            self._releasing.forget_told()
            await self._reader.commit(await self._reader.starts())
        if now >= self._next_forget and not clock.skewed:
            self._next_forget = Instant(now + FORGET_EVERY)
            limits = self._seat.federation.policy.limits
            past = limits.max_deadline_ms + 2 * limits.max_skew_ms + REMEMBERED
            before = BrokerMillis(max(0, clock.now() - past))
            try:
                await asyncio.to_thread(self._store.forget, before)
            except ConfigError as error:
                _log.warning("store.not_pruned", error=str(error))


def _store(seat: Seat) -> ReleaseStore:
    section = seat.settings.helper
    if section is None:
        raise ConfigError(
            f"{seat.settings.directory / 'member.toml'}: a helper needs a [helper] section with "
            '`store = "releases.sqlite"`.'
        )
    return ReleaseStore(section.store)
