"""One HTTP port for a role: `/livez`, `/readyz` and `/metrics`.

Answered on the role's own event loop: a loop that hangs does not answer.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.clock import SystemClock
from fi_stream.errors import BrokerError
from fi_stream.federation.files import load_member
from fi_stream.roles.metrics import Board
from fi_stream.roles.pages import Page, serve
from fi_stream.roles.progress import Progress, Surroundings
from fi_stream.roles.runtime import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fi_stream.federation.roster import Role
    from fi_stream.roles.keys import Keys
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.transport.port import Reader

_log = structlog.get_logger("health")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the broker and the clock."""

ENDS_WITHIN: Final = 2.0
"""Seconds that the broker has to say where its partitions end, for the lag."""

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def watched(role: Role, file: Path | str) -> AsyncIterator[Watch]:
    """Serve what a role shows, from before it has a broker until it has ended.

    Without a port in `[health]` nothing is served, and nothing runs.

    Raises:
        ConfigError: the file is wrong, or the port is taken.
    """
    settings = load_member(file)
    watch = Watch(role, settings.id)
    host, port = settings.health.host, settings.health.port
    if port is None:
        yield watch
        return
    pages = {"/livez": watch.livez, "/readyz": watch.readyz, "/metrics": watch.metrics}
    async with serve(host, port, pages) as number:
        _log.info("health.listening", member=settings.id, host=host, port=number)
        async with background({"health.look": watch.keep_looking()}):
            yield watch


class Watch:
    """What one process shows of itself: `progress`, told by its loop, and a `board` of numbers."""

    def __init__(self, role: Role, member: str) -> None:
        self._clock = SystemClock()
        self._who = {"role": str(role), "member": member}
        self._seat: Seat | None = None
        self._keys: Keys | None = None
        self._reader: Reader | None = None
        self._lag: dict[str, int] = {}
        self.progress = Progress(self._clock.monotonic())
        self.board = Board({**self._who, "version": version("fi-stream")})

    def seated(self, seat: Seat, keys: Keys, tally: Tally) -> None:
        """The role has its seat: show what is the same in every role."""
        self._seat, self._keys = seat, keys
        self.progress.longest_deadline = seat.federation.policy.limits.max_deadline_ms / 1000
        self.progress.doing("reading grants")
        clock, board, progress = seat.clock, self.board, self.progress
        board.show_each("refusals", tally.counts)
        if tally.dead is not None:
            board.show_each("dead_letters", tally.dead.counts)
        board.show("waiting_events", lambda: keys.gate.waiting)
        board.show("clock_skew_seconds", lambda: (clock.offset or 0.0) / 1000)
        board.show("key_age_seconds", lambda: max(0, clock.now() - keys.own.oldest) / 1000)
        board.show("partitions", lambda: progress.partitions)
        board.show("last_poll_seconds", lambda: progress.quiet(self._clock.monotonic()) or 0.0)
        board.show("skipped_records", lambda: seat.transport.skipped)
        board.show("jumps", lambda: seat.transport.jumped)
        board.show("moved_partitions", lambda: seat.transport.moved)
        board.show("broker_reachable", lambda: seat.transport.reachable)
        board.show("ready", lambda: not progress.lacking(self._clock.monotonic()))

    def reading(self, reader: Reader) -> None:
        """The role has its reader: show how far behind it is."""
        self._reader = reader
        self.board.show_each("lag_records", lambda: self._lag)

    async def keep_looking(self) -> None:
        """Note when the broker goes and what was lost, whether or not somebody asks."""
        while True:
            self._look()
            await asyncio.sleep(LOOK_EVERY)

    async def livez(self) -> Page:
        """Whether the loop goes round; if not, only a new process helps."""
        why = self.progress.stuck(self._clock.monotonic())
        return _page({"alive": not why, **self._who, "why": why}, well=not why)

    async def readyz(self) -> Page:
        """Whether the role does its work now, and what is lacking."""
        self._look()
        now = self._clock.monotonic()
        why, degraded = self.progress.lacking(now), self.progress.degraded(now)
        told = {"ready": not why, **self._who, "why": why, "degraded": degraded}
        return _page(told, well=not why)

    async def metrics(self) -> Page:
        """Every number, in Prometheus's text format."""
        self._look()
        self._lag = await self._behind()
        return Page(200, self.board.page(), _TEXT)

    def _look(self) -> None:
        seat = self._seat
        if seat is None:
            return
        transport, lacking = seat.transport, self._keys and self._keys.own.lacking
        around = Surroundings(
            reachable=transport.reachable,
            skew=seat.clock.offset or 0.0,
            max_skew=seat.clock.max_skew,
            lost=transport.skipped + transport.jumped,
            troubles=transport.troubles + ((lacking,) if lacking else ()),
            moved=transport.moved,
        )
        self.progress.look(around, self._clock.monotonic())

    async def _behind(self) -> dict[str, int]:
        """Records not read yet, by topic; nothing while the broker does not say."""
        if self._seat is None or self._reader is None or not self._seat.transport.reachable:
            return {}
        behind: dict[str, int] = {}
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                at = await self._reader.starts()
                ends = await self._reader.ends(at)
        except (BrokerError, TimeoutError):
            return {}
        for partition, offset in at.items():
            left = max(0, ends.get(partition, offset) - offset)
            behind[partition.topic] = behind.get(partition.topic, 0) + left
        return behind


def _page(told: dict[str, object], *, well: bool) -> Page:
    return Page(200 if well else 503, json.dumps(told).encode() + b"\n", "application/json")
