"""What became of each query, as the topics say it: read from the broker, nobody is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.clock import SystemClock
from fi_stream.events.envelope import decode_envelope, event_digest
from fi_stream.events.refusals import Refusal
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Partition, Start

if TYPE_CHECKING:
    from fi_stream.transport.port import Record

_SETTLED_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Queries that were appended by their deadline, and what became of them.

    `without` have no result, `contradicted` several that differ. `late` have their first one after
    their deadline, the last of all so many milliseconds after.
    """

    queries: int
    without: int
    contradicted: int
    late: int
    latest_ms: int


async def outcomes(bootstrap: str) -> Outcomes:
    """Read the topics until every query has its outcome, or for as long as one may still come."""
    topics = catalogue()
    shared = (topics.queries, topics.results)
    partitions = frozenset(Partition(t.name, n) for t in shared for n in range(t.partitions))
    seen, clock = Seen(), SystemClock()
    async with (
        KafkaTransport(Connection.to(bootstrap), clock) as transport,
        transport.reader(Assigned(partitions, Start.BEGINNING)) as reader,
    ):
        end = clock.monotonic() + _SETTLED_WITHIN
        while clock.monotonic() < end:
            records = await reader.poll(1.0, 5_000)
            for record in records:
                seen.take(record)
            if not records and not seen.outcomes().without:
                break
    return seen.outcomes()


class Seen:
    """Queries and their results, in any order, by the digest of the query's event."""

    def __init__(self) -> None:
        self._deadlines: dict[bytes, int] = {}
        self._first: dict[bytes, tuple[bytes, int]] = {}
        self._contradicted: set[bytes] = set()

    def take(self, record: Record) -> None:
        """One record of either topic; of a copy of an event the first counts."""
        decoded = decode_envelope(record.value)
        if isinstance(decoded, Refusal):
            return
        envelope, header = decoded
        digest = event_digest(envelope.header, envelope.nonce, envelope.sealed)
        if header.reply is None:
            if record.at <= header.ask.deadline:
                self._deadlines[digest] = header.ask.deadline
            return
        first, _ = self._first.setdefault(header.reply.digest, (digest, record.at))
        if first != digest:
            self._contradicted.add(header.reply.digest)

    def outcomes(self) -> Outcomes:
        """What is known by now."""
        after = [
            self._first[query][1] - deadline
            for query, deadline in self._deadlines.items()
            if query in self._first
        ]
        return Outcomes(
            queries=len(self._deadlines),
            without=len(self._deadlines) - len(after),
            contradicted=len(self._contradicted),
            late=sum(each > 0 for each in after),
            latest_ms=max(0, *after) if after else 0,
        )
