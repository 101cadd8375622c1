"""`fi-stream tail`: print the clear headers of a topic's events as they come."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.transport.port import Partition, Record, Transport


def tail(
    topic: Annotated[str, typer.Argument(help="A topic: fi.queries, fi.responses, fi.keys ...")],
    config: Annotated[Path, typer.Option(help="A member.toml with the broker.")],
    from_beginning: Annotated[bool, typer.Option(help="Not only what comes from now on.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many events.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print a topic's events as they come: clear headers only, nothing is opened or verified."""
    import asyncio

    from fi_stream.roles.logs import configure_logs

    configure_logs("warning")  # such as a broker that is waited for
    asyncio.run(_tail(topic, config, limit, from_beginning=from_beginning, as_json=as_json))


async def _tail(
    topic: str, config: Path, limit: int | None, *, from_beginning: bool, as_json: bool
) -> None:
    import json

    from fi_stream.clock import SystemClock
    from fi_stream.federation.files import load_member
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.kafka import KafkaTransport
    from fi_stream.transport.port import Assigned, Start

    connection = Connection.of(load_member(config).kafka)
    async with KafkaTransport(connection, SystemClock()) as transport:
        partitions = await _partitions(transport, topic)
        start = Start.BEGINNING if from_beginning else Start.END
        async with transport.reader(Assigned(partitions, start)) as reader:
            await reader.starts()
            seen = 0
            while limit is None or seen < limit:
                for record in await reader.poll(1.0):
                    fields = _clear(record)
                    print(json.dumps(fields) if as_json else _in_words(fields), flush=True)
                    seen += 1
                    if seen == limit:
                        break


async def _partitions(transport: Transport, topic: str) -> frozenset[Partition]:
    from fi_stream.transport.port import Partition

    count = await transport.partition_count(topic)
    return frozenset(Partition(topic, number) for number in range(count))


def _clear(record: Record) -> Mapping[str, object]:
    from fi_stream.events.envelope import clear_fields, decode_envelope
    from fi_stream.events.grant import clear_grant, decode_grant
    from fi_stream.events.refusals import Refusal
    from fi_stream.events.roster import clear_roster, decode_roster

    where = {
        "topic": record.source.topic,
        "partition": record.source.number,
        "offset": record.offset,
        "appended": record.at,
        "bytes": len(record.value),
    }
    event = decode_envelope(record.value)
    if not isinstance(event, Refusal):
        return {**where, "header": clear_fields(event[1])}
    grant = decode_grant(record.value)
    if not isinstance(grant, Refusal):
        return {**where, "header": clear_grant(grant[1])}
    roster = decode_roster(record.value)
    if not isinstance(roster, Refusal):
        return {**where, "header": clear_roster(roster[1])}
    return {**where, "refused": event.reason.value}


def _in_words(fields: Mapping[str, object]) -> str:
    header = fields.get("header")
    what = header if isinstance(header, dict) else {"refused": fields.get("refused")}
    place = f"{fields['topic']}[{fields['partition']}]@{fields['offset']}"
    said = "  ".join(f"{key}={_printable(value)}" for key, value in what.items())
    return f"{place}  {fields['bytes']} bytes  {said}"


def _printable(value: object) -> str:
    """Text as it is, unless it could steer the terminal: nothing here has been verified."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
