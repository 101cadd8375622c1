"""The client: asks queries and gets each one's result, or the word that none came in time."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.errors import NoResult, QueryError
from fi_stream.events.payloads import Outcome
from fi_stream.events.query_id import new_query_id, read_query_id
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.roles.again import GRACE, Again, busy
from fi_stream.roles.asking import Choice, ask_of, seal, wanted
from fi_stream.roles.health import Watch, watched
from fi_stream.roles.keys import Keys
from fi_stream.roles.metrics import Latency
from fi_stream.roles.reading import ResultReader
from fi_stream.roles.result import Result
from fi_stream.roles.runtime import background
from fi_stream.roles.seat import GIVE_UP_AFTER, take_seat
from fi_stream.roles.sending import Sending
from fi_stream.roles.streaming import streamed
from fi_stream.roles.tally import Tally
from fi_stream.roles.window import Window
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Partition, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from pathlib import Path

    from fi_stream.events.header import Ask
    from fi_stream.federation.rows import Rows
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.progress import Progress
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import Instant

MOST_OPEN = 100_000
"""Queries without a result that a client may have at once."""

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
        partitions = await seat.transport.partition_count(topic)
        number = secrets.randbelow(partitions)
        what = Assigned(frozenset({Partition(topic, number)}), Start.END)
        async with seat.transport.reader(what) as reader:
            # Before the first query: a result must not be appended ahead of where we read from.
            await reader.starts()
            client = Client(seat, keys, tally, (number, partitions))
            watch.reading(reader)
            watch.progress.assigned(what.partitions)
            client.show_on(watch.board)
            works = {
                "client.grants": keys.read_grants(),
                "client.announce": keys.keep_announcing(),
                "client.send": client.sending.keep_sending(),
                "client.results": client.read_results(reader, watch.progress),
            }
            try:
                async with background(works):
                    await keys.ready.wait()
                    watch.progress.doing(None)
                    yield client
            finally:
                client.leave()


class Posted(asyncio.Future[Result]):
    """A query that was asked: becomes its result; `query_id` is known before anything is sent."""

    query_id: str


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A query that was asked and has no result yet."""

    ask: Ask
    digest: bytes
    asked: Instant
    result: Posted
    timer: asyncio.TimerHandle
    number: int


class Client:
    """Asks queries. Made by `connect`."""

    def __init__(self, seat: Seat, keys: Keys, tally: Tally, place: tuple[int, int]) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._partition, self._partitions = place
        self._results = ResultReader(seat.federation, keys.gate, tally)
        self._open: dict[bytes, _Open] = {}
        self._held: dict[bytes, Record] = {}
        self._window = Window(MOST_OPEN)
        self._finished = asyncio.Event()
        self._again = Again(seat, keys, tally, self._partitions)
        self.sending = Sending(seat)
        self._outcomes: Counter[str] = Counter()
        self._latency = Latency()
        self._unanswered = 0

    def show_on(self, board: Board) -> None:
        """Show what this client counts."""
        board.show("queries", lambda: self.sending.posted)
        board.show_each("outcomes", lambda: self._outcomes)
        board.show("unanswered", lambda: self._unanswered)
        board.show("open_queries", lambda: len(self._open))
        board.show_latency("result_seconds", self._latency)

    @property
    def refusals(self) -> dict[str, int]:
        """Events that were refused, by reason."""
        return dict(self._tally.counts())

    async def ask(
        self,
        rows: Rows,
        *,
        deadline: float = 1.0,
        rule: str | None = None,
        protection: str | None = None,
        query_id: str | None = None,
    ) -> Result:
        """Ask one query and wait for its result.

        With a `query_id` it asks again what may have been asked before, by this process or one that
        is gone: when the result of that id is there, it is returned and nothing is sent.

        Args:
            rows: an array of one row [*input] or many [rows, *input], or a mapping of them.
            deadline: seconds from now by which the result must be there.
            rule: how to join the answers; the federation's first rule if not given.
            protection: who may see each answer: trusted, blind or secagg; the federation's first if
                not given.
            query_id: the id of an earlier query, or a UUID of version 7 of your own.

        Raises:
            QueryError: the query does not fit the task or the policy; nothing was sent.
            NoResult: no result came by the deadline.
            BrokerError: the broker does not answer; only with a `query_id`.
        """
        if query_id is None:
            result = await self.post(rows, deadline=deadline, rule=rule, protection=protection)
        else:
            choice = Choice(deadline, rule, protection)
            what = wanted(self._seat.federation, rows, choice)
            result = await self._again.ask(self._earlier(query_id), what, self.sending)
        if result.outcome is None and result.reason is not None:
            raise NoResult(
                f"the result of query {result.query_id} was refused: {result.reason}. "
                "See Refusals in docs/operating.md for what that means."
            )
        if result.outcome is None:
            raise NoResult(
                f"no result of query {result.query_id} came within {deadline:g} s. "
                "Are an aggregator and enough participants running, on the same broker?"
            )
        return result

    async def find(self, query_id: str) -> Result | None:
        """The result of a query of this member, whichever process asked it; None if there is none.

        Raises:
            QueryError: the id is none, or is being asked right now.
            BrokerError: the broker does not answer.
        """
        return await self._again.find(self._earlier(query_id))

    async def stream(  # noqa: PLR0913  (how a query is asked, and how many at once)
        self,
        rows: Iterable[Rows] | AsyncIterable[Rows],
        *,
        deadline: float = 1.0,
        rule: str | None = None,
        protection: str | None = None,
        in_flight: int = 64,
        ordered: bool = True,
    ) -> AsyncIterator[Result]:
        """Ask many queries, at most `in_flight` at once; results in order or as they come.

        A query without a result by its deadline yields a result whose outcome is None.

        Raises:
            QueryError: a query does not fit the task or the policy; those before it have their
                results first.
        """

        async def post(one: Rows) -> Posted:
            while len(self._open) >= self._window.size:
                self._finished.clear()
                await self._finished.wait()
            return self.post(one, deadline=deadline, rule=rule, protection=protection)

        async for result in streamed(post, rows, in_flight, ordered=ordered):
            yield result

    def post(
        self,
        rows: Rows,
        *,
        deadline: float = 1.0,
        rule: str | None = None,
        protection: str | None = None,
    ) -> Posted:
        """Ask one query; the future becomes its result, with outcome None when none came in time.

        While the federation has no room for what is open already, the result is there at once:
        rejected as overloaded, with a hint when to ask again, and nothing is sent.

        Nothing is sent before the caller's next `await`: a `query_id` that is written down until
        then finds the result whatever becomes of this process.

        Raises:
            QueryError: the query does not fit the task or the policy, or too many are open or wait
                to be sent; nothing was sent.
        """
        what = wanted(self._seat.federation, rows, Choice(deadline, rule, protection))
        if len(self._open) >= MOST_OPEN:
            raise QueryError(
                f"{len(self._open)} queries are open at once, the most that a client may have: "
                "wait for results before you ask more, or use `stream`, which does"
            )
        query = new_query_id(self._seat.clock.now(), self._partition, self._partitions)
        ask = ask_of(self._seat, query, self._partition, what)
        loop = asyncio.get_running_loop()
        result = Posted(loop=loop)
        result.query_id = query.hex()
        if len(self._open) >= self._window.size:
            result.set_result(self._no_room(ask))
            return result
        sealed = seal(self._seat, self._keys.own.find(), ask, what)
        self.sending.post(ask, sealed.value)
        timer = loop.call_later(what.seconds + GRACE, self._give_up, query)
        asked = self._seat.clock.monotonic()
        number = self._window.asked()
        self._open[query] = _Open(ask, sealed.digest, asked, result, timer, number)
        return result

    def _earlier(self, query_id: str) -> bytes:
        query = read_query_id(query_id)
        if query in self._open:
            raise QueryError(busy(query))
        return query

    def _no_room(self, ask: Ask) -> Result:
        """What becomes of a query at once, while more are open than are answered in time."""
        self._outcomes[Outcome.REJECTED] += 1
        self._tally.refused(Refusal(Reason.OVERLOADED, f"{len(self._open)} queries are open"))
        retry = ask.deadline - ask.created
        return Result(ask, Outcome.REJECTED, 0.0, Reason.OVERLOADED, retry_after_ms=retry)

    async def read_results(self, reader: Reader, progress: Progress) -> None:
        """Give each result to whoever waits for it."""
        gate, grants = self._keys.gate, 0
        while True:
            progress.polled(self._seat.clock.monotonic())
            patience = WAITING if gate.waiting or self._held else IDLE
            records = await reader.poll(patience)
            # Only then: a member that grants us nothing must not cost us a look at every poll.
            held = list(self._held.values()) if gate.grants != grants else []
            grants = gate.grants
            # After the poll: a grant that came meanwhile must not wait for the next one's end.
            for record in held + self._keys.take_released() + records:
                self._take(record)
            for record, refusal in gate.expired(self._seat.clock.monotonic()):
                self._tally.refused(refusal, record)
            await asyncio.sleep(0)  # whatever comes in, asking and the timers go on

    def leave(self) -> None:
        """Give up what is open: nobody reads results any more, so it stays unknown."""
        for query in list(self._open):
            self._give_up(query)

    def _take(self, record: Record, *, waits: bool = True) -> None:
        if record.key not in self._open:
            return  # another client's, or one that we have: the first valid result counts
        event = self._keys.gate.admit(record, "result")
        refusal = event if isinstance(event, Refusal) else None
        if event is not None and not isinstance(event, Refusal):
            refusal = self._settle(event, waits=waits)
        if refusal is not None:
            self._tally.refused(refusal, record)

    def _settle(self, event: Verified, *, waits: bool) -> Refusal | None:
        reply = event.header.reply
        waiting = self._open.get(event.header.ask.query)
        if reply is None or reply.client != self._seat.settings.id or waiting is None:
            return None
        if reply.digest != waiting.digest:
            return Refusal(Reason.WRONG_QUERY, "the result of another event with our query's id")
        query = waiting.ask.query
        first = self._held.get(query, event.record)
        if first is not event.record:
            return None  # the one that waits for grants came first
        latency = (self._seat.clock.monotonic() - waiting.asked) * 1000
        result = self._results.read(event, reply, waiting.ask, latency, waits=waits)
        if result is None:
            self._held[query] = event.record
            return None
        self._held.pop(query, None)
        if isinstance(result, Refusal) and result.reason is Reason.SUM_OUT_OF_RANGE:
            # There will be no other: a second set is never opened.
            self._finish(waiting, Result(waiting.ask, None, latency, result.reason))
        if isinstance(result, Refusal):
            return result
        self._finish(waiting, result)
        return None

    def _give_up(self, query: bytes) -> None:
        held = self._held.get(query)
        if held is not None:
            self._take(held, waits=False)  # with those responses whose grants did come
        waiting = self._open.get(query)
        if waiting is None:
            return
        latency = (self._seat.clock.monotonic() - waiting.asked) * 1000
        self._finish(waiting, Result(waiting.ask, None, latency))

    def _finish(self, waiting: _Open, result: Result) -> None:
        del self._open[waiting.ask.query]
        self._held.pop(waiting.ask.query, None)
        waiting.timer.cancel()
        self._finished.set()
        if result.overloaded:
            self._window.overloaded(waiting.number, len(self._open))
        elif result.outcome is not None:
            self._window.answered(waiting.number, len(self._open))
        if result.outcome is None:
            self._unanswered += 1
        else:
            self._outcomes[result.outcome] += 1
            self._latency.took(result.latency_ms / 1000)
        if not waiting.result.done():
            waiting.result.set_result(result)
