"""One schedule run: a federation of real processes, the strokes in time, what is left of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.crash import broker as kafka
from bench.crash.asker import LONGEST
from bench.crash.checker import settled_by
from bench.crash.federation import AGGREGATOR, HELPER, write
from bench.crash.history import History, Query, Span, Told
from bench.crash.processes import Processes, now
from bench.crash.reading import Opened, reading
from bench.crash.schedule import (
    AGGREGATORS,
    BROKER,
    CLIENT,
    HELPERS,
    PARTICIPANTS,
    REPLICAS,
    SPARE_AGGREGATOR,
    Action,
    role_of,
)
from bench.crash.service import served
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.refusals import Refusal
from fi_stream.privacy.ledger import read as read_ledger
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.crash.federation import Written
    from bench.crash.history import Terms
    from bench.crash.reading import Topics
    from bench.crash.schedule import Schedule, Stroke
    from fi_stream.transport.apache import ApacheBroker
    from fi_stream.transport.port import Record

_LEAST_SECONDS = 0.5
_LOOK_EVERY = 0.1
ROLES = "fi_stream.cli"
"""The module whose verbs the aggregators and participants are."""

_MEMBERS = {"aggregator": AGGREGATOR, "helper": HELPER}
_SETTLED_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What one schedule left."""

    history: History
    terms: Terms
    kills: Mapping[str, int]
    refused: Mapping[str, int]


async def run(
    schedule: Schedule, broker: ApacheBroker, folder: Path, roles: Sequence[str] = (ROLES,)
) -> Ran:
    """Run one schedule.

    Args:
        schedule: what is killed when.
        broker: an Apache Kafka with the catalogue's topics.
        folder: where the federation and the logs are written.
        roles: the module that runs a verb of the command line, and its first words.

    Raises:
        BenchFailed: a process ended by itself, did not start or did not stop.
        FiStreamError: the broker did not come back, or the topics cannot be read.
    """
    await asyncio.to_thread(broker.start)  # should the schedule before have left it down
    await kafka.empty(broker.bootstrap)
    written = write(folder, broker.bootstrap, schedule)
    with Processes(folder) as processes:
        cluster = _Cluster(schedule, broker, written, processes, roles)
        await cluster.start()
        await cluster.strike()
        async with reading(broker.bootstrap) as topics:
            await cluster.settle(topics)
            await processes.stop()
            await topics.read()
        opened = Opened(topics.records, written)
        history = History(
            queries=opened.queries,
            responses=opened.responses,
            results=opened.results,
            served=cluster.served(),
            until=now(),
            told=_told(processes),
            reserved=_reserved(written) if schedule.noised else {},
            untold=_untold(processes),
            recorded=_recorded(written) if schedule.sums else None,
        )
        return Ran(history, written.terms(), cluster.kills, opened.refused)


class _Cluster:
    def __init__(
        self,
        schedule: Schedule,
        broker: ApacheBroker,
        written: Written,
        processes: Processes,
        roles: Sequence[str],
    ) -> None:
        self._roles = roles
        self._schedule = schedule
        self._broker = broker
        self._written = written
        self._processes = processes
        self._outages: list[Span] = []
        self._began = 0.0
        self._steady = (*AGGREGATORS, *(HELPERS if schedule.sums else ()))
        self.kills: Counter[str] = Counter(dict.fromkeys(map(role_of, self._steady), 0))

    async def start(self) -> None:
        """Start all; the client last, and the schedule with it."""
        roles = (*self._steady, *PARTICIPANTS)
        for name in roles:
            self._start(name)
        await self._processes.ready(roles)
        self._start(CLIENT)
        await self._processes.ready([CLIENT])
        self._began = time.monotonic()

    async def strike(self) -> None:
        """Do all strokes in time; return when everyone is up and the client has finished."""
        try:
            async with asyncio.TaskGroup() as strokes:
                for number, stroke in enumerate(self._schedule.strokes):
                    strokes.create_task(self._stroke(stroke), name=f"crash.stroke-{number}")
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        await self._processes.finished(CLIENT, self._schedule.seconds + LONGEST)
        await self._processes.ready(self._steady)

    async def settle(self, topics: Topics) -> None:
        """Wait until each query has a result, or had all the time that its result may take."""
        names, bound = catalogue(), self._written.terms().bound_ms
        until = time.monotonic() + _SETTLED_WITHIN
        while time.monotonic() < until:
            await topics.read()
            done = {record.key for record in topics.of(names.results.name)}
            open_ = [
                q for r in topics.of(names.queries.name) if r.key not in done for q in _query(r)
            ]
            span, at = self.served(), now()
            if all(settled_by(query, span, bound, at) for query in open_):
                return
            await asyncio.sleep(_LOOK_EVERY)

    def served(self) -> tuple[Span, ...]:
        """When an aggregator was ready and the broker up."""
        names = (*AGGREGATORS, SPARE_AGGREGATOR)
        return served(self._processes.spans(names), self._outages)

    async def _stroke(self, stroke: Stroke) -> None:
        await self._until(stroke.at)
        killed = stroke.action is Action.KILL
        if stroke.action is Action.START:
            self._start(stroke.victim)
            return
        if stroke.victim == CLIENT and self._processes.of(CLIENT).code() is not None:
            return  # it had asked all
        if killed:
            self.kills[role_of(stroke.victim)] += 1
        if stroke.victim == BROKER:
            start = now()
            await asyncio.to_thread(self._broker.kill)
            await self._until(stroke.back)
            await asyncio.to_thread(self._broker.start)
            await kafka.serves(self._broker.bootstrap)
            self._outages.append(Span(start, now()))
            return
        if stroke.action is Action.PAUSE:
            await self._processes.pause(stroke.victim, self._until(stroke.back))
            return
        self._processes.end(stroke.victim, signal.SIGKILL if killed else signal.SIGTERM)
        if stroke.back is not None:
            await self._until(stroke.back)
            self._start(stroke.victim)

    async def _until(self, seconds: float | None) -> None:
        await asyncio.sleep(max(0.0, self._began + (seconds or 0.0) - time.monotonic()))

    def _start(self, name: str) -> None:
        if name == CLIENT:
            self._processes.start(name, self._asker())
            return
        role = role_of(name)
        member = _MEMBERS.get(role, REPLICAS.get(name, name))
        self._processes.start(name, [*self._roles, role, str(self._written.member(member))])

    def _asker(self) -> list[str]:
        schedule = self._schedule
        gone = time.monotonic() - self._began if self._began else 0.0
        plan = {
            "seed": f"{schedule.seed}/{schedule.number}/{len(self._processes.lives)}",
            "rate": schedule.queries / schedule.seconds,
            "seconds": max(_LEAST_SECONDS, schedule.seconds - gone),
            "deadlines": schedule.deadlines,
        }
        return ["bench.crash.asker", str(self._written.member(CLIENT)), json.dumps(plan)]


def _query(record: Record) -> list[Query]:
    decoded = decode_envelope(record.value)
    if isinstance(decoded, Refusal):
        return []
    ask = decoded[1].ask
    return (
        [Query(ask.query.hex(), "", record.at, ask.deadline)] if record.at <= ask.deadline else []
    )


def _told(processes: Processes) -> tuple[Told, ...]:
    lines = [
        line for life in processes.lives if life.name == CLIENT for line in life.events("told")
    ]
    return tuple(Told(line["query"], line["outcome"], line["label"]) for line in lines)


def _untold(processes: Processes) -> int:
    return sum(
        len(life.events("asked")) - len(life.events("told"))
        for life in processes.lives
        if life.name == CLIENT and life.events("done")
    )


def _recorded(written: Written) -> dict[str, str]:
    """What the helper's store holds, as SQLite has it: whoever reads it changes nothing."""
    with closing(sqlite3.connect(f"file:{written.store}?mode=ro", uri=True)) as store:
        rows = store.execute("SELECT query, members FROM released").fetchall()
    return {query.hex(): members.hex() for query, members in rows}


def _reserved(written: Written) -> dict[str, int]:
    found = {}
    for name in PARTICIPANTS:
        lines = read_ledger(written.ledger(name)).lines
        found[name] = lines[CLIENT].reserved if CLIENT in lines else 0
    return found
