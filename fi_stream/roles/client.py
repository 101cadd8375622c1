"""The client: asks queries and gets each one's result, or the word that none came in time."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fi_stream.errors import NoResult, QueryError
from fi_stream.events.header import Ask
from fi_stream.events.payloads import QueryPayload, ResultPayload, frame
from fi_stream.events.query_id import new_query_id
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.federation.rows import encode_rows
from fi_stream.roles.health import Watch, watched
from fi_stream.roles.keys import Keys
from fi_stream.roles.labels import tool_labels
from fi_stream.roles.metrics import Latency
from fi_stream.roles.result import Result, read_result
from fi_stream.roles.runtime import background
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.streaming import streamed
from fi_stream.roles.tally import Tally
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from pathlib import Path

    from fi_stream.federation.rows import Rows
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.progress import Progress
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import Instant

GRACE = 0.1
"""Seconds past its deadline that a result may still be on its way."""

WAITING = 0.01
"""Longest wait for results, in seconds, while one waits for its grant."""

IDLE = 1.0
"""The same while none does."""


@asynccontextmanager
async def connect(
    file: Path | str, *, give_up_after: float = GIVE_UP_AFTER
) -> AsyncIterator[Client]:
    """Take a client's seat in its federation; queries may be asked at once.

    With a port in `[health]` what it does is shown there, by one client at a time.

    Args:
        file: the client's member.toml.
        give_up_after: seconds to wait for a broker that is down.

    Raises:
        ConfigError: a file is wrong, or the port is taken.
        BrokerError: the broker could not be reached in time.
        TopicError: topics are missing or do not fit.
    """
    async with watched(Role.CLIENT, file) as watch, seated(file, watch, give_up_after) as client:
        yield client


@asynccontextmanager
async def seated(
    file: Path | str, watch: Watch | None = None, give_up_after: float = GIVE_UP_AFTER
) -> AsyncIterator[Client]:
    """A client that shows itself on `watch`; without one nowhere, for a command that prints all."""
    watch = watch or Watch(Role.CLIENT, "")
    async with take_seat(Role.CLIENT, file, give_up_after) as seat:
        tally = Tally("client")
        keys = Keys(seat, tally)
        watch.seated(seat, keys, tally)
        topic = catalogue().results.name
        number = secrets.randbelow(await seat.transport.partition_count(topic))
        what = Assigned(frozenset({Partition(topic, number)}), Start.END)
        async with seat.transport.reader(what) as reader:
            # Before the first query: a result must not be appended ahead of where we read from.
            await reader.starts()
            client = Client(seat, keys, tally, number)
            watch.reading(reader)
            watch.progress.assigned(what.partitions)
            client.show_on(watch.board)
            works = {
                "client.grants": keys.read_grants(),
                "client.announce": keys.keep_announcing(),
                "client.send": client.send_queries(),
                "client.results": client.read_results(reader, watch.progress),
            }
            try:
                async with background(works):
                    await keys.ready.wait()
                    watch.progress.doing(None)
                    yield client
            finally:
                client.leave()


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A query that was asked and has no result yet."""

    ask: Ask
    digest: bytes
    asked: Instant
    result: asyncio.Future[Result]
    timer: asyncio.TimerHandle


class Client:
    """Asks queries. Made by `connect`."""

    def __init__(self, seat: Seat, keys: Keys, tally: Tally, partition: int) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._partition = partition
        self._open: dict[bytes, _Open] = {}
        self._outbox: list[tuple[int, Outgoing]] = []
        self._wake = asyncio.Event()
        self._outcomes: Counter[str] = Counter()
        self._latency = Latency()
        self._asked = self._unanswered = 0

    def show_on(self, board: Board) -> None:
        """Show what this client counts."""
        board.show("queries", lambda: self._asked)
        board.show_each("outcomes", lambda: self._outcomes)
        board.show("unanswered", lambda: self._unanswered)
        board.show("open_queries", lambda: len(self._open))
        board.show_latency("result_seconds", self._latency)

    @property
    def refusals(self) -> dict[str, int]:
        """Events that were refused, by reason."""
        return dict(self._tally.counts())

    async def ask(self, rows: Rows, *, deadline: float = 1.0, rule: str | None = None) -> Result:
        """Ask one query and wait for its result.

        Args:
            rows: an array of one row [*input] or many [rows, *input], or a mapping of them.
            deadline: seconds from now by which the result must be there.
            rule: how to join the answers; the federation's first rule if not given.

        Raises:
            QueryError: the query does not fit the task or the policy; nothing was sent.
            NoResult: no result came by the deadline.
        """
        result = await self.post(rows, deadline=deadline, rule=rule)
        if result.outcome is None:
            raise NoResult(
                f"no result of query {result.query_id} came within {deadline:g} s. "
                "Are an aggregator and enough participants running, on the same broker?"
            )
        return result

    async def stream(
        self,
        rows: Iterable[Rows] | AsyncIterable[Rows],
        *,
        deadline: float = 1.0,
        rule: str | None = None,
        in_flight: int = 64,
        ordered: bool = True,
    ) -> AsyncIterator[Result]:
        """Ask many queries, at most `in_flight` at once; results in order or as they come.

        A query without a result by its deadline yields a result whose outcome is None.

        Raises:
            QueryError: a query does not fit the task or the policy; those before it have their
                results first.
        """
        post = partial(self.post, deadline=deadline, rule=rule)
        async for result in streamed(post, rows, in_flight, ordered=ordered):
            yield result

    def post(
        self, rows: Rows, *, deadline: float = 1.0, rule: str | None = None
    ) -> asyncio.Future[Result]:
        """Ask one query; the future becomes its result, with outcome None when none came in time.

        Raises:
            QueryError: the query does not fit the task or the policy; nothing was sent.
        """
        policy = self._seat.federation.policy
        seconds = _checked_deadline(deadline, policy.limits.max_deadline_ms)
        rule = rule or self._seat.federation.default_rule
        if rule not in policy.rules:
            raise QueryError(f"rule {rule!r} is not in the policy: {', '.join(policy.rules)}")
        count, inputs = encode_rows(rows, self._seat.federation.task)
        if count > policy.limits.max_rows:
            raise QueryError(f"{count} rows at once; the policy allows {policy.limits.max_rows}")
        now = self._seat.clock.now()
        ask = Ask(
            query=new_query_id(now),
            partition=self._partition,
            rule=rule,
            rows=count,
            protection=self._seat.federation.default_protection.value,
            created=now,
            deadline=BrokerMillis(now + round(seconds * 1000)),
        )
        return self._post(ask, frame(QueryPayload(inputs=inputs)), seconds)

    def _post(self, ask: Ask, payload: bytes, seconds: float) -> asyncio.Future[Result]:
        sealed = self._keys.epoch().seal(ask, None, payload)
        most = self._seat.federation.policy.limits.max_message_bytes
        if len(sealed.value) > most:
            raise QueryError(
                f"{len(sealed.value)} bytes, and an event may have {most}: ask fewer rows"
            )
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        timer = loop.call_later(seconds + GRACE, self._give_up, ask.query)
        asked = self._seat.clock.monotonic()
        self._open[ask.query] = _Open(ask, sealed.digest, asked, result, timer)
        target = Partition(catalogue().queries.name, ask.partition)
        labels = tool_labels("query", self._seat.federation.task.hash, ask)
        event = Outgoing(target, ask.query, sealed.value, labels)
        self._asked += 1
        self._outbox.append((ask.deadline, event))
        self._wake.set()
        return result

    async def send_queries(self) -> None:
        """Publish what was posted: all that gathered while the last batch was on its way."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            now = self._seat.clock.now()
            posted = [(deadline, event) for deadline, event in self._outbox if deadline > now]
            self._outbox = []
            if posted:
                until = BrokerMillis(max(deadline for deadline, _ in posted))
                await self._seat.publish([event for _, event in posted], until)

    async def read_results(self, reader: Reader, progress: Progress) -> None:
        """Give each result to whoever waits for it."""
        while True:
            progress.polled(self._seat.clock.monotonic())
            patience = WAITING if self._keys.gate.waiting else IDLE
            records = await reader.poll(patience)
            # After the poll: a grant that came meanwhile must not wait for the next one's end.
            for record in self._keys.take_released() + records:
                self._take(record)
            for record, refusal in self._keys.gate.expired(self._seat.clock.monotonic()):
                self._tally.refused(refusal, record)
            await asyncio.sleep(0)  # whatever comes in, asking and the timers go on

    def leave(self) -> None:
        """Give up what is open: nobody reads results any more, so it stays unknown."""
        for query in list(self._open):
            self._give_up(query)

    def _take(self, record: Record) -> None:
        if record.key not in self._open:
            return  # another client's, or one that we have: the first valid result counts
        event = self._keys.gate.admit(record, "result")
        refusal = event if isinstance(event, Refusal) else None
        if event is not None and not isinstance(event, Refusal):
            refusal = self._settle(event)
        if refusal is not None:
            self._tally.refused(refusal, record)

    def _settle(self, event: Verified) -> Refusal | None:
        reply = event.header.reply
        waiting = self._open.get(event.header.ask.query)
        if reply is None or reply.client != self._seat.settings.id or waiting is None:
            return None
        if reply.digest != waiting.digest:
            return Refusal(Reason.WRONG_QUERY, "the result of another event with our query's id")
        payload = event.open(ResultPayload)
        if isinstance(payload, Refusal):
            return payload
        latency = (self._seat.clock.monotonic() - waiting.asked) * 1000
        result = read_result(waiting.ask, payload, self._seat.federation.task.classes, latency)
        if isinstance(result, Refusal):
            return result
        self._finish(waiting, result)
        return None

    def _give_up(self, query: bytes) -> None:
        waiting = self._open[query]
        latency = (self._seat.clock.monotonic() - waiting.asked) * 1000
        self._finish(waiting, Result(waiting.ask, None, latency))

    def _finish(self, waiting: _Open, result: Result) -> None:
        del self._open[waiting.ask.query]
        waiting.timer.cancel()
        if result.outcome is None:
            self._unanswered += 1
        else:
            self._outcomes[result.outcome] += 1
            self._latency.took(result.latency_ms / 1000)
        if not waiting.result.done():
            waiting.result.set_result(result)


def _checked_deadline(seconds: float, most_ms: int) -> float:
    if not 0 < seconds <= most_ms / 1000:
        raise QueryError(
            f"a deadline of {seconds:g} s: it must be in the future, and the policy allows at most "
            f"{most_ms / 1000:g} s"
        )
    return seconds
