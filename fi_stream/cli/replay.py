"""`fi-stream replay FILE`: recorded queries decided again, as they were and as they would be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fi_stream.aggregation.replay import Compared
    from fi_stream.aggregation.whatif import WhatIf
    from fi_stream.roles.noising import Noising
    from fi_stream.roles.recordings import Recording


@dataclass(frozen=True, slots=True)
class _Line:
    """What is decided again, under this name; with noise if there is any."""

    name: str
    change: WhatIf
    noising: Noising | None = None


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
    epsilon: Annotated[
        float | None, typer.Option(help="Noise each row of each exact answer by so much.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Of Gaussian noise; else 1e-5.")] = None,
    mechanism: Annotated[
        str | None, typer.Option(help="randomised_response or gaussian; else as the rule reads.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decide recorded queries again: as they were, then by other rules, deadlines, participants.

    As they were, results must be the same to the bit: ends with 1 where one is not.
    """
    from fi_stream.aggregation.whatif import WhatIf
    from fi_stream.roles.recordings import read_recording

    noising = _noising(epsilon, delta, mechanism)
    only = None if participants is None else frozenset(participants.split(","))
    recording = read_recording(file)
    _refuse(only, {m for one in recording.queries for m in one.participants})
    change = WhatIf(deadline_ms=deadline, participants=only)
    found = [
        (line, _decided(recording, line)) for line in _lines(list(rules or []), change, noising)
    ]
    _print(recording, found, as_json=as_json)
    _, first = found[0]
    if first.identical < first.queries:
        raise typer.Exit(1)


def _noising(epsilon: float | None, delta: float | None, mechanism: str | None) -> Noising | None:
    from fi_stream.errors import ConfigError
    from fi_stream.federation.member import Mechanism
    from fi_stream.roles.noising import DELTA, Noising

    if epsilon is None:
        for name, given in (("--delta", delta), ("--mechanism", mechanism)):
            if given is not None:
                raise ConfigError(f"{name}: it is of noise, and there is none without --epsilon.")
        return None
    known = {one.value: one for one in Mechanism}
    if mechanism is not None and mechanism not in known:
        raise ConfigError(f"--mechanism {mechanism}: use randomised_response or gaussian.")
    chosen = None if mechanism is None else known[mechanism]
    return Noising(epsilon, DELTA if delta is None else delta, chosen)


def _refuse(only: frozenset[str] | None, known: set[str]) -> None:
    from fi_stream.errors import ConfigError

    unknown = sorted((only or frozenset()) - known)
    if unknown:
        raise ConfigError(
            f"--participants: nobody of that name was asked: {', '.join(unknown)}. "
            f"Those asked: {', '.join(sorted(known)) or 'nobody'}."
        )


def _lines(rules: list[str], change: WhatIf, noising: Noising | None) -> Iterator[_Line]:
    """As recorded; then each rule with the other changes; then the same with noise."""
    from fi_stream.aggregation.whatif import AS_IT_WAS

    yield _Line("as recorded", AS_IT_WAS)
    same = "the same rule"
    if change != AS_IT_WAS:
        yield _Line(same, change)
    for rule in rules:
        yield _Line(rule, replace(change, rule=rule))
    if noising is None:
        return
    others = [replace(change, rule=rule) for rule in rules] or [change]
    for one in others:
        name = f"{one.rule or same}, epsilon {noising.epsilon:g}"
        yield _Line(name, replace(one, answers=True), noising)


def _decided(recording: Recording, line: _Line) -> Compared:
    from fi_stream.aggregation.replay import compare, redecide
    from fi_stream.roles.noising import noised

    queries, rule = recording.queries, line.change.rule
    if line.noising is not None:
        queries = noised(queries, len(recording.classes), line.noising, rule)
    return compare(recording.queries, redecide(queries, line.change))


def _mechanisms(recording: Recording, line: _Line) -> list[str]:
    """By which a line's answers were noised."""
    if line.noising is None:
        return []
    rules = {line.change.rule or one.ask.rule for one in recording.queries}
    return sorted({line.noising.mechanism_for(rule).value for rule in rules})


def _print(recording: Recording, found: list[tuple[_Line, Compared]], *, as_json: bool) -> None:
    if as_json:
        plain = [
            {
                "decided": line.name,
                **asdict(one),
                "accuracy": one.accuracy,
                "epsilon": None if line.noising is None else line.noising.epsilon,
                "mechanisms": _mechanisms(recording, line),
            }
            for line, one in found
        ]
        print(json.dumps(plain, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("decided", no_wrap=True)
    for title in ("outcomes", "identical", "rows with another label", "accuracy"):
        table.add_column(title)
    for line, one in found:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in one.outcomes.items())
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.1%}"
        identical = f"{one.identical} of {one.queries}"
        table.add_row(line.name, outcomes, identical, f"{one.relabelled} of {one.rows}", accuracy)
    Console().print(table)
    used = {name for line, _ in found for name in _mechanisms(recording, line)}
    if used:
        print(f"epsilon is of one row, at each participant, by {' or '.join(sorted(used))}")
