"""The topics read to the end and turned into values, with the keys of those who may."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bench.crash.federation import AGGREGATOR, HELPER
from bench.crash.history import Query, Response, Result
from bench.crash.schedule import CLIENT
from bench.crash.sums import set_of, whole_label
from fi_stream.aggregation.answers import Reading, open_half, open_response
from fi_stream.clock import BrokerClock, SystemClock
from fi_stream.events.payloads import ResultPayload
from fi_stream.events.refusals import Refusal
from fi_stream.federation.policy import Protection
from fi_stream.federation.rosters import Rosters
from fi_stream.roles.opening import open_result
from fi_stream.roles.reading import ResultReader
from fi_stream.roles.result import read_result
from fi_stream.roles.tally import Tally
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.identity import Identities
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Partition, Start
from fi_stream.values import Millis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.crash.federation import Written
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record

_NANO = 10**9
_READ_WITHIN = 60.0


class Topics:
    """Everything that is on the topics, as far as it was read."""

    def __init__(self, reader: Reader, partitions: frozenset[Partition]) -> None:
        self._reader = reader
        self._partitions = partitions
        self.records: list[Record] = []

    async def read(self) -> None:
        """Read to where the topics end now."""
        ends = await self._reader.ends(self._partitions)
        async with asyncio.timeout(_READ_WITHIN):
            while any(at < ends[part] for part, at in (await self._reader.starts()).items()):
                self.records += await self._reader.poll(0.1, 5_000)

    def of(self, topic: str) -> list[Record]:
        """What was read of one topic, each partition in order."""
        return _of(self.records, topic)


@asynccontextmanager
async def reading(bootstrap: str) -> AsyncIterator[Topics]:
    """A reader of all topics that a query passes, from the oldest record that is kept."""
    topics = catalogue()
    shared = (topics.queries, topics.responses, topics.results, topics.keys)
    partitions = frozenset(Partition(t.name, n) for t in shared for n in range(t.partitions))
    async with (
        KafkaTransport(Connection.to(bootstrap), SystemClock()) as transport,
        transport.reader(Assigned(partitions, Start.BEGINNING)) as reader,
    ):
        yield Topics(reader, partitions)


class Opened:
    """The valid events among the records; `refused` counts the others by reason."""

    def __init__(self, records: Sequence[Record], written: Written) -> None:
        self._written = written
        self.refused: Counter[str] = Counter()
        names = catalogue()
        grants = _of(records, names.keys.name)
        self._aggregator = self._gate(AGGREGATOR, grants)
        self._client = self._gate(CLIENT, grants)
        self._helper = self._gate(HELPER, grants) if HELPER in written.identities else None
        self._blind = Protection.BLIND in written.federation.policy.protections
        self._tally = Tally("reading")
        self.queries = self._queries(_of(records, names.queries.name))
        self.responses = self._responses(_of(records, names.responses.name))
        self.results = self._results(_of(records, names.results.name))
        self.refused.update(self._tally.counts())  # what was relayed and is of no use

    def _gate(self, member: str, grants: list[Record]) -> Gate:
        federation, identity = self._written.federation, self._written.identities[member]
        clock = BrokerClock(SystemClock(), Millis(federation.policy.limits.max_skew_ms))
        rosters = Rosters(federation)
        gate = Gate(rosters, Keyring(rosters, member, Identities(identity)), clock)
        for grant in grants:
            gate.granted(grant.value)
        return gate

    def _queries(self, records: list[Record]) -> tuple[Query, ...]:
        first: dict[tuple[str, bytes], Query] = {}
        for record in records:
            event = self._verified(self._aggregator.admit(record, "query"))
            if event is not None:
                ask = event.header.ask
                query = Query(
                    ask.query.hex(), event.digest.hex(), record.at, ask.deadline, ask.partition
                )
                first.setdefault((event.header.sender, ask.query), query)
        return tuple(first.values())

    def _responses(self, records: list[Record]) -> tuple[Response, ...]:
        found = []
        federation = self._written.federation
        for record in records:
            event = self._verified(self._aggregator.admit(record, "response"))
            if event is None or event.header.reply is None:
                continue
            reply = event.header.reply
            form, classes = federation.policy.form, len(federation.task.classes)
            if self._blind:
                event = self._verified(self._client.admit(record, "response"))
            if event is None:
                continue
            if self._helper is None:
                given, _ = open_response(event, reply, Reading(form, classes))
                label = None if given.prediction is None else int(given.prediction[0].argmax())
            else:
                given, _ = open_half(event, reply, classes)
                label = whole_label(self._helper, record, given)
            found.append(
                Response(
                    query=event.header.ask.query.hex(),
                    digest=reply.digest.hex(),
                    member=event.header.sender,
                    at=record.at,
                    label=label,
                    reason=None if given.reason is None else given.reason.value,
                    event=event.digest.hex(),
                    cost=0 if given.noise is None else int(given.noise.epsilon * _NANO),
                )
            )
        return tuple(found)

    def _results(self, records: list[Record]) -> tuple[Result, ...]:
        opened = (self._result(record) for record in records)
        return tuple(result for result in opened if result is not None)

    def _result(self, record: Record) -> Result | None:
        event = self._verified(self._client.admit(record, "result"))
        if event is None or event.header.reply is None:
            return None
        ask, reply = event.header.ask, event.header.reply
        federation = self._written.federation
        if self._helper is None:
            payload = event.open(ResultPayload)
        else:
            payload = open_result(event, self._client)
        members = set_of(event)
        if isinstance(payload, Refusal) and members:
            return Result(
                query=ask.query.hex(),
                digest=reply.digest.hex(),
                at=record.at,
                outcome="",
                members=members,
                unfit=payload.reason.value,
            )
        if isinstance(payload, Refusal):
            self.refused[payload.reason] += 1
            return None
        if self._blind:
            reader = ResultReader(federation, self._client, self._tally)
            read = reader.read(event, reply, ask, 0.0, waits=False)
        else:
            read = read_result(ask, payload, federation.task.classes, 0.0)
        if read is None or isinstance(read, Refusal) or read.outcome is None:
            self.refused["unreadable result"] += 1
            return None
        decided = read.decided
        silent = {member: None if why == "silent" else why for member, why in read.missing.items()}
        return Result(
            query=ask.query.hex(),
            digest=reply.digest.hex(),
            at=record.at,
            outcome=read.outcome.value,
            label=None if decided is None else int(decided.labels[0]),
            shares=() if decided is None else tuple(float(s) for s in decided.scores[0]),
            contributors=tuple(contributor.member for contributor in read.contributors),
            missing=silent,
            reason=None if read.reason is None else read.reason.value,
            members=members,
        )

    def _verified(self, event: Verified | Refusal | None) -> Verified | None:
        if isinstance(event, Refusal):
            self.refused[event.reason] += 1
            return None
        if event is None:
            self.refused["no grant"] += 1
        return event


def _of(records: Sequence[Record], topic: str) -> list[Record]:
    return [record for record in records if record.source.topic == topic]
