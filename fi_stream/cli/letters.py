"""The dead letters of a federation, read for the command line: letters about one record are one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from fi_stream.events.dead_letter import DeadLetter
    from fi_stream.transport.port import Transport

_IDLE = 1.0
_MOST_REFUSERS = 1024


@dataclass(slots=True)
class Buried:
    """One record that was refused for one reason, and who refused it, as its letters say."""

    letter: DeadLetter
    by: list[str] = field(default_factory=list)


class Found(NamedTuple):
    """Refused records, oldest first, and how many records of the topic are no dead letters."""

    buried: list[Buried]
    others: int


async def read_letters(
    config: Path, wanted: Callable[[DeadLetter], bool], limit: int | None = None
) -> Found:
    """The newest `limit` records with a letter that is wanted; all, without a limit."""
    from fi_stream.events.dead_letter import decode_letter
    from fi_stream.events.refusals import Refusal

    found: dict[tuple[str, bytes, int], Buried] = {}
    others = 0
    async for value in _values(config):
        letter = decode_letter(value)
        if isinstance(letter, Refusal):
            others += 1
            continue
        if not wanted(letter):
            continue
        identity = (letter.origin.name, letter.record.digest, letter.reason)
        one = found.setdefault(identity, Buried(letter))
        who = f"{letter.by.member} ({letter.by.role})"
        if who not in one.by and len(one.by) < _MOST_REFUSERS:
            one.by.append(who)
        if limit is not None and len(found) > limit:
            del found[next(iter(found))]
    return Found(list(found.values()), others)


def sort_out(buried: Iterable[Buried]) -> tuple[list[DeadLetter], dict[str, str]]:
    """The records that can be appended again, each once; and of the others, by origin, why not."""
    by_origin: dict[str, list[DeadLetter]] = {}
    for one in buried:
        by_origin.setdefault(one.letter.origin.name, []).append(one.letter)
    fit, hindered = [], {}
    for name, letters in by_origin.items():
        why = next(_hindrances(letters), None)
        if why is None:
            fit.append(letters[0])
        else:
            hindered[name] = why
    return fit, hindered


async def append_again(config: Path, letters: Sequence[DeadLetter]) -> list[tuple[str, str]]:
    """Append each record where it was found; returns where it was, and where it is now.

    Raises:
        BrokerError: the broker refused one; those before it were appended.
        TopicError: a partition does not exist.
    """
    from fi_stream.transport.port import Outgoing, Partition

    done = []
    async with _connected(config) as transport:
        for letter in letters:
            origin = letter.origin
            target = Partition(origin.topic, origin.partition)
            event = Outgoing(target, letter.record.key or b"", letter.record.value)
            [appended] = await transport.publish([event])
            again = origin.model_copy(update={"offset": appended.offset})
            done.append((origin.name, again.name))
    return done


def _hindrances(letters: Sequence[DeadLetter]) -> Iterator[str]:
    """Why the record of these letters cannot be appended again."""
    from fi_stream.transport.catalogue import catalogue

    topics = catalogue()
    known = {t.name for t in (topics.queries, topics.responses, topics.results, topics.keys)}
    first = letters[0]
    if first.origin.topic not in known:
        yield "no member reads that topic"
    if any(each.record != first.record for each in letters):
        yield "its letters do not agree about its bytes"
    if first.record.truncated:
        yield f"it was cut: {len(first.record.value)} of {first.record.size} bytes were kept"
    if not first.record.whole:
        yield "its bytes are not those that were refused"


async def _values(config: Path) -> AsyncIterator[bytes]:
    """All that the topic of dead letters holds now."""
    from fi_stream.transport.catalogue import catalogue
    from fi_stream.transport.port import Assigned, Partition, Start

    async with _connected(config) as transport:
        topic = catalogue().dead.name
        count = await transport.partition_count(topic)
        partitions = frozenset(Partition(topic, number) for number in range(count))
        async with transport.reader(Assigned(partitions, Start.BEGINNING)) as reader:
            ends = await reader.ends(partitions)
            while any(at < ends[each] for each, at in (await reader.starts()).items()):
                for record in await reader.poll(_IDLE):
                    yield record.value


@asynccontextmanager
async def _connected(config: Path) -> AsyncIterator[Transport]:
    from fi_stream.clock import SystemClock
    from fi_stream.federation.files import load_member
    from fi_stream.roles.logs import configure_logs
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.kafka import KafkaTransport

    configure_logs("warning")  # such as a broker that is waited for
    connection = Connection.of(load_member(config).kafka, f"{config} [kafka]")
    async with KafkaTransport(connection, SystemClock()) as transport:
        yield transport
