"""`fi-stream health FILE`: how each participant does in recorded traffic, without right labels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fi_stream.aggregation.observing import Seen


def health(
    file: Annotated[Path, typer.Argument(help="A recording, or a trace (*.npz).")],
    *,
    window: Annotated[int, typer.Option(help="Look at so many of the last rows.", min=1)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how each participant does: estimated accuracy, overconfidence, abstains, latency, drift.

    Nobody needs to know the right labels, but a majority that lies together is believed.
    """
    from fi_stream.aggregation.observing import watch
    from fi_stream.roles.recordings import read_recording

    recording = read_recording(file)
    found = watch(recording.queries, len(recording.classes), window)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    _print(found)


def _print(found: list[Seen]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    known = any(one.right is not None for one in found)
    columns = (
        "member",
        "accuracy",
        "too sure",
        "agrees",
        "abstains",
        "p50, p99 ms",
        "fell",
        "gate",
    )
    table = Table(
        *columns, *(["right"] if known else []), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for one in found:
        well = one.health
        table.add_row(
            one.member,
            _percent(well.accuracy),
            _percent(well.overconfidence, sign="+"),
            _percent(well.agreement),
            _percent(well.abstained),
            "" if well.latency_p50 is None else f"{well.latency_p50:.0f}, {well.latency_p99:.0f}",
            "" if one.drifted is None else f"at {one.drifted + 1}",
            "counts" if one.counts else "out",
            *([_percent(one.right)] if known else []),
        )
    Console().print(table)
    print(
        "accuracy is estimated; too sure: confidence less that; fell: the answer at which\n"
        "agreement had fallen; gate: out is independent of the others"
        + ("; right is the true accuracy" if known else "")
    )


def _percent(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1%}"
