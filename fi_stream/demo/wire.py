"""What the demo's queries took on the wire, counted from the topics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fi_stream.clock import SystemClock
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.refusals import Refusal
from fi_stream.federation.files import load_federation, load_member
from fi_stream.federation.policy import Protection
from fi_stream.roles.seat import connection_of
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Partition, Start

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fi_stream.transport.port import Record

WITHIN = 10.0
"""Seconds that the broker has to be reached."""

_AT_ONCE = 2_000


async def bytes_of_a_query(member_file: Path) -> Mapping[Protection, float]:
    """The mean size of all events of one query: itself, its responses, a proposal, its result.

    Raises:
        BrokerError: the broker could not be reached in time.
    """
    settings = load_member(member_file)
    federation = load_federation(settings.member.federation)
    connection = connection_of(settings, federation)
    topics = catalogue()
    used = (topics.queries, topics.responses, topics.proposals, topics.results)
    names = [topic.name for topic in used]
    async with KafkaTransport(connection, SystemClock(), WITHIN) as transport:
        counts = {name: await transport.partition_count(name) for name in names}
        partitions = frozenset(
            Partition(name, number) for name, count in counts.items() for number in range(count)
        )
        what = Assigned(partitions, Start.BEGINNING)
        async with transport.reader(what) as reader:
            ends = await reader.ends(partitions)
            at = await reader.starts()
            records: list[Record] = []
            while any(at[each] < ends[each] for each in partitions):
                records += await reader.poll(0.1, _AT_ONCE)
                at = await reader.starts()
    return mean_bytes(records, federation.task.hash)


def mean_bytes(records: Iterable[Record], task: bytes) -> Mapping[Protection, float]:
    """The bytes of the events of this task, by protection, divided by the queries among them."""
    size: Counter[str] = Counter()
    queries: Counter[str] = Counter()
    for record in records:
        decoded = decode_envelope(record.value)
        if isinstance(decoded, Refusal) or decoded[1].task != task:
            continue
        protection = decoded[1].ask.protection
        size[protection] += len(record.value)
        queries[protection] += decoded[1].type == "query"
    return {each: size[each] / queries[each] for each in Protection if queries[each]}
