"""What sealing, codec and join cost a response, measured apart: no broker, one thread."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bench import job
from bench.in_process import InProcess
from fi_stream.aggregation.answers import Reading, answered_by, open_response
from fi_stream.aggregation.facts import Asked
from fi_stream.aggregation.join import Join
from fi_stream.aggregation.results import result_payloads
from fi_stream.clock import SystemClock
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import (
    Answer,
    QueryPayload,
    ResultPayload,
    frame,
    response_length,
)
from fi_stream.events.query_id import new_query_id
from fi_stream.events.tensors import Tensor, to_tensor
from fi_stream.federation.rows import decode_rows, encode_rows
from fi_stream.sealing.gate import Verified
from fi_stream.values import Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fi_stream.aggregation.facts import Settled
    from fi_stream.events.header import EventType
    from fi_stream.transport.port import Record

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_ONCE = 1 / job.PARTICIPANTS
"""What is done once a query is done so often for each response."""

_QUERIES = 2000
_TIMES = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One step: who does it, what it costs once, and how often it is done for each response."""

    role: str
    what: str
    micros: float
    per_response: float

    @property
    def share(self) -> float:
        """Microseconds for each response."""
        return self.micros * self.per_response


def measure() -> list[Step]:
    """Take queries through every step, each step over all of them."""
    gc.collect()
    gc.disable()
    try:
        passes = [_pass(InProcess()) for _ in range(_TIMES)]
    finally:
        gc.enable()
    # The fastest of each: what else runs on the machine can only add.
    return [min(same, key=lambda step: step.micros) for same in zip(*passes, strict=True)]


def per_response(steps: list[Step]) -> float:
    """Microseconds of all steps together, for each response."""
    return sum(step.share for step in steps)


def _admit(all_of: InProcess, name: str, record: Record, kind: EventType) -> Verified:
    """What a gate lets in; the bench's own events are always good."""
    return _sure(all_of.gates[name].admit(record, kind), Verified)


def _sure(given: object, kind: type[_Out]) -> _Out:
    """What was expected; the bench's own events are never refused."""
    if not isinstance(given, kind):
        raise TypeError(f"{kind.__name__} was expected, and {given!r} came")
    return given


def _pass(all_of: InProcess) -> list[Step]:
    times = _Times(all_of)
    asks, queries = times.ask()
    seen = times.answer_queries(queries)
    responses = times.seal_responses(seen)
    settled = times.join(asks, queries, responses)
    times.finish(settled)
    return times.steps


class _Times:
    """The steps in order; each is timed over all queries."""

    def __init__(self, all_of: InProcess) -> None:
        self._all = all_of
        self.steps: list[Step] = []

    def ask(self) -> tuple[list[Ask], list[Record]]:
        """The client's side of a query."""
        federation, epoch = self._all.federation, self._all.epochs["client"]
        rows = job.questions().rows

        def seal(index: int) -> tuple[Ask, Record]:
            count, inputs = encode_rows(rows[index % job.ROWS], federation.task)
            now = self._all.clock.now()
            ask = Ask(
                query=new_query_id(now),
                partition=0,
                rule=federation.default_rule,
                rows=count,
                protection=federation.default_protection.value,
                created=now,
                deadline=now + 10_000,
            )
            sealed = epoch.seal(ask, None, frame(QueryPayload(inputs=inputs)))
            return ask, self._all.record("fi.queries", ask.query, sealed.value)

        made = self._time("client", "encode and seal a query", _ONCE, seal, range(_QUERIES))
        return [ask for ask, _ in made], [record for _, record in made]

    def answer_queries(self, queries: list[Record]) -> list[Verified]:
        """A participant's side of a query."""
        task = self._all.federation.task

        def admit(record: Record) -> Verified:
            return _admit(self._all, "p1", record, "query")

        def open_query(event: Verified) -> object:
            payload = _sure(event.open(QueryPayload), QueryPayload)
            return decode_rows(payload.inputs, 1, task)

        seen = self._time("participant", "verify a query", 1, admit, queries)
        self._time("participant", "open and decode a query", 1, open_query, seen)
        return seen

    def seal_responses(self, seen: list[Verified]) -> list[list[Record]]:
        """Each participant's response to each query; one participant's are timed."""
        model = job.model(1)
        said = model.probabilities(job.questions().rows)
        room = response_length(1, job.CLASSES)

        def seal(name: str, place: int, event: Verified) -> Record:
            at = place % job.ROWS
            tensor = _sure(to_tensor("probabilities", said[at : at + 1]), Tensor)
            payload = frame(Answer(form="probabilities", outputs=(tensor,)), room)
            ask, sender = event.header.ask, event.header.sender
            reply = Reply(client=sender, digest=event.digest, kind="answer", model="0123456789ab")
            sealed = self._all.epochs[name].seal(ask, reply, payload)
            return self._all.record("fi.responses", ask.query, sealed.value)

        def first(numbered: tuple[int, Verified]) -> Record:
            return seal("p1", *numbered)

        numbered = list(enumerate(seen))
        mine = self._time("participant", "encode and seal a response", 1, first, numbered)
        return [
            [one, *(seal(f"p{number}", place, event) for number in (2, 3))]
            for one, (place, event) in zip(mine, numbered, strict=True)
        ]

    def join(
        self, asks: list[Ask], queries: list[Record], responses: list[list[Record]]
    ) -> list[Settled]:
        """The aggregator's way from records to settled queries."""
        federation, all_of = self._all.federation, self._all
        join = Join(federation.policy.quorum)
        ends = Instant(all_of.clock.monotonic() + 100)

        def take_query(numbered: tuple[Ask, Record]) -> None:
            ask, record = numbered
            event = _admit(all_of, "aggregator", record, "query")
            sender, participants = event.header.sender, federation.participants
            join.query(Asked(sender, event.digest, ask, 1, participants), ends, ends)

        def admit(record: Record) -> Verified:
            return _admit(all_of, "aggregator", record, "response")

        def take_response(event: Verified) -> Settled | None:
            header = event.header
            reply = _sure(header.reply, Reply)
            key = (reply.client, header.ask.query)
            join.refuse_response(key, answered_by(event, reply), ends, Instant(0.0))
            given, _ = open_response(event, reply, Reading(federation.policy.form, job.CLASSES))
            return join.response(key, given, ends)

        pairs = list(zip(asks, queries, strict=True))
        flat = [record for three in responses for record in three]
        self._time("aggregator", "verify a query, open its entry", _ONCE, take_query, pairs)
        events = self._time("aggregator", "verify a response", 1, admit, flat)
        joined = self._time("aggregator", "open and join a response", 1, take_response, events)
        return [settled for settled in joined if settled is not None]

    def finish(self, settled: list[Settled]) -> None:
        """From settled queries to the client's results."""
        epoch = self._all.epochs["aggregator"]

        def decide(some: list[Settled]) -> list[ResultPayload]:
            return result_payloads(some)

        def seal(both: tuple[Settled, ResultPayload]) -> Record:
            one, payload = both
            asked = one.asked
            reply = Reply(client=asked.client, digest=asked.digest, kind="result")
            value = epoch.seal(asked.ask, reply, frame(payload)).value
            return self._all.record("fi.results", asked.ask.query, value)

        def take(record: Record) -> ResultPayload:
            event = _admit(self._all, "client", record, "result")
            return _sure(event.open(ResultPayload), ResultPayload)

        hundreds = [settled[at : at + 100] for at in range(0, len(settled), 100)]
        decided = self._time("aggregator", "decide 100 queries", _ONCE / 100, decide, hundreds)
        payloads = [payload for some in decided for payload in some]
        both = list(zip(settled, payloads, strict=True))
        results = self._time("aggregator", "encode and seal a result", _ONCE, seal, both)
        self._time("client", "verify and open a result", _ONCE, take, results)

    def _time(
        self,
        role: str,
        what: str,
        per_response: float,
        step: Callable[[_In], _Out],
        over: Sequence[_In],
    ) -> list[_Out]:
        clock = SystemClock()
        start = clock.monotonic()
        done = [step(one) for one in over]
        micros = (clock.monotonic() - start) / len(done) * 1e6
        self.steps.append(Step(role, what, micros, per_response))
        return done
