"""What all schedules came to: the table, the document, and the trace of each that failed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.crash.checker import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bench.crash.checker import Verdict
    from bench.crash.cluster import Ran
    from bench.crash.schedule import Schedule

ROLES = ("aggregator", "participant", "client", "broker")
"""And the helper, where there was one."""

_MOST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One schedule: who was killed, and what the checker says of it."""

    number: int
    noised: bool
    kills: Mapping[str, int]
    verdict: Verdict


def document(lines: Sequence[Line], seed: int, machine: Mapping[str, object]) -> dict[str, Any]:
    """Everything as plain values, for `--json`."""
    outcomes: Counter[str] = Counter()
    for line in lines:
        outcomes.update(line.verdict.outcomes)
    return {
        "schedules": len(lines),
        "kills": _kills(lines),
        "queries": sum(line.verdict.queries for line in lines),
        **{column.value: _sum(lines, column) for column in Column},
        "repeats": sum(line.verdict.repeats for line in lines),
        "worst_ms": max((line.verdict.worst_ms for line in lines), default=0),
        "outcomes": dict(sorted(outcomes.items())),
        "seed": seed,
        "machine": dict(machine),
        "failed": [
            {"schedule": line.number, "faults": [asdict(fault) for fault in line.verdict.faults]}
            for line in lines
            if line.verdict.faults
        ],
    }


def table(lines: Sequence[Line]) -> Table:
    """A row for all schedules, and one for each that failed."""
    shown = Table("schedule", title="what is left after processes were killed")
    roles = _kills(lines)
    headings = (*(f"{role} kills" for role in roles), "queries", *Column, "repeats", "worst ms")
    for heading in headings:
        shown.add_column(heading, justify="right")
    for line in lines:
        if line.verdict.faults:
            shown.add_row(str(line.number), *_cells([line]))
    shown.add_section()
    shown.add_row(f"all {len(lines)}", *_cells(lines))
    return shown


def complaints(lines: Iterable[Line]) -> list[str]:
    """Some faults of each schedule that failed, in words."""
    said = []
    for line in lines:
        faults = line.verdict.faults
        said += [
            f"schedule {line.number}: {fault.column}: query {fault.query}: {fault.what}"
            for fault in faults[:_MOST_SHOWN]
        ]
        if len(faults) > _MOST_SHOWN:
            said.append(f"schedule {line.number}: {len(faults) - _MOST_SHOWN} more")
    return said


def said(line: Line) -> str:
    """One schedule in a line."""
    verdict = line.verdict
    return (
        f"schedule {line.number}: {verdict.queries} queries, kills {dict(line.kills)}, "
        f"outcomes {dict(verdict.outcomes)}, worst {verdict.worst_ms} ms, "
        f"{len(verdict.faults)} faults"
    )


def write_trace(
    folder: Path,
    schedule: Schedule,
    verdict: Verdict,
    logs: Mapping[str, list[str]],
    ran: Ran | None = None,
) -> Path:
    """Keep what explains a failed schedule: its strokes, and all that concerns its bad queries.

    Args:
        folder: where it goes; made if it is not there.
        schedule: what was killed when.
        verdict: what the checker says, or that it could not be run to its end.
        logs: the last lines of each process.
        ran: what it left, if it came to its end.
    """
    trace: dict[str, Any] = {"schedule": asdict(schedule), "verdict": asdict(verdict)}
    if ran is not None:
        bad = {fault.query for fault in verdict.faults}
        history = ran.history
        trace |= {
            "served": [asdict(span) for span in history.served],
            "refused": dict(ran.refused),
            "queries": [asdict(query) for query in history.queries if query.id in bad],
            "responses": [asdict(one) for one in history.responses if one.query in bad],
            "results": [asdict(one) for one in history.results if one.query in bad],
            "told": [asdict(one) for one in history.told if one.query in bad],
        }
    trace["logs"] = dict(logs)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"crash-{schedule.seed}-{schedule.number}.json"
    file.write_text(json.dumps(trace, indent=1) + "\n", "utf-8")
    return file


def _cells(lines: Sequence[Line]) -> list[str]:
    kills = _kills(lines)
    return [
        *map(str, kills.values()),
        str(sum(line.verdict.queries for line in lines)),
        *(str(_sum(lines, column)) for column in Column),
        str(sum(line.verdict.repeats for line in lines)),
        str(max((line.verdict.worst_ms for line in lines), default=0)),
    ]


def _kills(lines: Sequence[Line]) -> dict[str, int]:
    sums = any("helper" in line.kills for line in lines)
    roles = (*ROLES, "helper") if sums else ROLES
    return {role: sum(line.kills.get(role, 0) for line in lines) for role in roles}


def _sum(lines: Sequence[Line], column: Column) -> int:
    return sum(line.verdict.count(column) for line in lines)
