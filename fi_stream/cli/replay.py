"""`fi-stream replay FILE`: recorded queries decided again, as they were and as they would be."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fi_stream.aggregation.replay import Compared


def replay(
    file: Annotated[Path, typer.Argument(help="A recording, or a trace (*.npz).")],
    *,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="Decide by this rule; any number.")
    ] = None,
    deadline: Annotated[
        int | None, typer.Option(help="Only answers within so many milliseconds.", min=1)
    ] = None,
    participants: Annotated[
        str | None, typer.Option(help="Only these participants, with commas between.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decide recorded queries again: as they were, then by other rules, deadlines, participants.

    As they were, results must be the same to the bit: ends with 1 where one is not.
    """
    from fi_stream.aggregation.replay import compare, redecide
    from fi_stream.aggregation.whatif import AS_IT_WAS, WhatIf
    from fi_stream.roles.recordings import read_recording

    recording = read_recording(file)
    only = None if participants is None else frozenset(participants.split(","))
    _refuse(only, {m for one in recording.queries for m in one.participants})
    changes = {"as recorded": AS_IT_WAS}
    if deadline is not None or only is not None:
        changes["the same rule"] = WhatIf(deadline_ms=deadline, participants=only)
    for name in rules or []:
        changes[name] = WhatIf(name, deadline, only)
    found = {
        name: compare(recording.queries, redecide(recording.queries, change))
        for name, change in changes.items()
    }
    _print(found, as_json=as_json)
    if found["as recorded"].identical < found["as recorded"].queries:
        raise typer.Exit(1)


def _refuse(only: frozenset[str] | None, known: set[str]) -> None:
    from fi_stream.errors import ConfigError

    unknown = sorted((only or frozenset()) - known)
    if unknown:
        raise ConfigError(
            f"--participants: nobody of that name was asked: {', '.join(unknown)}. "
            f"Those asked: {', '.join(sorted(known)) or 'nobody'}."
        )


def _print(found: dict[str, Compared], *, as_json: bool) -> None:
    if as_json:
        plain = [
            {"decided": name, **asdict(one), "accuracy": one.accuracy}
            for name, one in found.items()
        ]
        print(json.dumps(plain, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("decided", "outcomes", "identical", "rows with another label", "accuracy")
    for name, one in found.items():
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in one.outcomes.items())
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
        identical = f"{one.identical} of {one.queries}"
        table.add_row(name, outcomes, identical, f"{one.relabelled} of {one.rows}", accuracy)
    Console().print(table)
