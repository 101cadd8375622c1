"""`fi-stream dead`: list and show the records that were refused as poison, and put them back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fi_stream.cli.letters import Buried
    from fi_stream.events.dead_letter import DeadLetter

dead_app = typer.Typer(no_args_is_help=True)

Config = Annotated[Path, typer.Option(help="A member.toml with the broker.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ForReason = Annotated[
    Reason | None, typer.Option(metavar="REASON", help="Only what was refused for this reason.")
]
Limit = Annotated[int, typer.Option(min=1, help="The newest so many records.")]

_ORIGIN = "topic/partition/offset, as `list` prints it."
_LAST_DATE = 253_402_300_799
_LINE = 16


@dead_app.command("list")
def list_(
    config: Config, reason: ForReason = None, limit: Limit = 100, as_json: AsJson = False
) -> None:
    """List refused records, the newest last; what several members said of one is one line."""
    import json

    found = _find(config, [], reason, limit)
    if as_json:
        print(json.dumps([_plain(one) for one in found], indent=2))
    else:
        print(*map(_line, found), sep="\n", end="\n" if found else "")


@dead_app.command()
def show(
    origin: Annotated[str, typer.Argument(help=_ORIGIN)],
    config: Config,
    most: Annotated[int, typer.Option("--bytes", min=0, help="Bytes of the record to dump.")] = 512,
    as_json: AsJson = False,
) -> None:
    """Show one refused record: what is clear in it, and a dump of its first bytes."""
    import json

    # One, but for a topic that was made anew, or a letter that somebody forged.
    for one in _find(config, [origin]):
        kept = one.letter.record.value
        fields = {**_plain(one), "header": _header(kept)}
        if as_json:
            print(json.dumps({**fields, "value": kept[:most].hex()}))
            continue
        for name, value in fields.items():
            print(f"{name:10}  {_printable(value)}")
        print(*_dump(kept[:most]), sep="\n")


@dead_app.command()
def replay(
    config: Config,
    origins: Annotated[list[str] | None, typer.Argument(help=_ORIGIN)] = None,
    reason: ForReason = None,
    limit: Limit = 100,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Append refused records again where they were found: the same key and the same bytes.

    They are checked like any other record: where nothing has changed they are refused again.
    """
    import asyncio
    import json

    from fi_stream.cli.letters import append_again, sort_out
    from fi_stream.errors import ConfigError

    if not origins and reason is None:
        raise ConfigError("say which records: topic/partition/offset, or --reason REASON.")
    letters, hindered = sort_out(_find(config, origins or [], reason, limit))
    for name, why in hindered.items():
        typer.echo(f"cannot be replayed: {_printable(name)}: {why}", err=True)
    if not letters:
        raise ConfigError("there is no record to replay, and nothing was sent.")
    if not yes and not _confirmed(letters):
        typer.echo("nothing was sent", err=True)
        return
    for origin, again in asyncio.run(append_again(config, letters)):
        print(json.dumps({"origin": origin, "again": again}) if as_json else f"{origin} -> {again}")


def _find(
    config: Path, origins: Sequence[str], reason: Reason | None = None, limit: int | None = None
) -> list[Buried]:
    """The refused records of these origins; when none is named, the newest `limit` of all.

    Raises:
        ConfigError: there is no letter about one of them.
    """
    import asyncio

    from fi_stream.cli.letters import read_letters
    from fi_stream.errors import ConfigError

    def wanted(letter: DeadLetter) -> bool:
        named = not origins or letter.origin.name in origins
        return named and (reason is None or letter.reason == reason.code)

    found, others = asyncio.run(read_letters(config, wanted, None if origins else limit))
    if others:
        typer.echo(f"{others} records among the dead letters are none", err=True)
    missing = sorted(set(origins) - {one.letter.origin.name for one in found})
    if missing:
        raise ConfigError(
            f"no dead letter about {', '.join(map(_printable, missing))}"
            f"{f' for {reason}' if reason else ''}: `fi-stream dead list` prints what there is."
        )
    return found


def _confirmed(letters: Sequence[DeadLetter]) -> bool:
    from fi_stream.errors import ConfigError

    for letter in letters:
        typer.echo(f"  {_printable(letter.origin.name)}  {letter.record.size} bytes", err=True)
    try:
        return typer.confirm(f"Append {len(letters)} again where they were found?", err=True)
    except typer.Abort:
        raise ConfigError(
            "nobody answered, and nothing was sent: say --yes to replay without being asked."
        ) from None


def _plain(one: Buried) -> dict[str, object]:
    """What the letters say, but for the record's bytes."""
    from fi_stream.events.dead_letter import clear_letter

    fields = dict(clear_letter(one.letter))
    for name in ("value", "member", "role"):
        del fields[name]
    return {"origin": one.letter.origin.name, **fields, "refused_by": one.by}


def _line(one: Buried) -> str:
    """The same for people, in a line."""
    from datetime import UTC, datetime

    letter = one.letter
    at = datetime.fromtimestamp(min(letter.origin.appended // 1000, _LAST_DATE), UTC)
    cut = ", cut" if letter.record.truncated else ""
    return "  ".join(
        (
            _printable(letter.origin.name),
            f"{at:%Y-%m-%d %H:%M:%S}",
            str(_plain(one)["reason"]),
            f"{letter.record.size} bytes{cut}",
            letter.record.digest.hex()[:16],
            _printable(", ".join(one.by)),
        )
    )


def _header(value: bytes) -> Mapping[str, object] | None:
    """The clear header of an event, grant or roster; None when there is none to read."""
    from fi_stream.events.envelope import clear_fields, decode_envelope
    from fi_stream.events.grant import clear_grant, decode_grant
    from fi_stream.events.roster import clear_roster, decode_roster

    event = decode_envelope(value)
    if not isinstance(event, Refusal):
        return clear_fields(event[1])
    grant = decode_grant(value)
    if not isinstance(grant, Refusal):
        return clear_grant(grant[1])
    roster = decode_roster(value)
    return None if isinstance(roster, Refusal) else clear_roster(roster[1])


def _dump(data: bytes) -> Iterator[str]:
    """Sixteen bytes a line: place, hexadecimal, and what is plain ASCII."""
    for start in range(0, len(data), _LINE):
        line = data[start : start + _LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{start:08x}  {line.hex(' '):{3 * _LINE}} {text}"


def _printable(value: object) -> str:
    """Text as it is, unless it could steer the terminal: nothing here has been verified."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
