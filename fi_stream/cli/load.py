"""`fi-stream load`: send queries at a steady rate and measure."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def load(
    member: Annotated[Path, typer.Argument(help="The client's member.toml.")],
    rate: Annotated[float, typer.Option(min=0.001, help="Queries a second, over all clients.")],
    duration: Annotated[float, typer.Option(min=0.001, help="Seconds to send for.")],
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Connections to send from.")] = 1,
    rows: Annotated[
        Path | None, typer.Option(help="Rows to ask in turn: .npy, .csv or .json; else random.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds by which a result must be there.")] = 1.0,
    rule: Annotated[str | None, typer.Option(help="How to join the answers.")] = None,
    protection: Annotated[
        str | None, typer.Option(help="Who may see each answer: trusted, blind or secagg.")
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Most queries unsettled at once; beyond, none are sent.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the arrival times and random rows.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the measurements here.")
    ] = None,
) -> None:
    """Send queries at random times (Poisson), whether or not the federation keeps up.

    Latency counts from when a query should have gone out, so waiting is never left out of it.
    Ctrl+C ends early and still prints. Ends with code 9 when no query at all had a result.
    """
    import json

    from fi_stream.cli.rows import read_rows
    from fi_stream.errors import ConfigError, NoResult, NotFinished
    from fi_stream.federation.files import load_as
    from fi_stream.federation.roster import Role
    from fi_stream.roles.load import Plan, run_load
    from fi_stream.roles.load_meter import Meter
    from fi_stream.roles.load_rows import random_rows
    from fi_stream.roles.runtime import run_role

    meter = Meter()
    plan = Plan(rate, duration, clients, deadline, rule, in_flight, seed, protection)
    _, federation = load_as(Role.CLIENT, member)
    task = federation.task
    queries = random_rows(task, seed) if rows is None else read_rows(rows, task)
    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError(f"--json {json_file}: there is no directory {json_file.parent}; make it")
    cut_short: NotFinished | None = None
    try:
        run_role(lambda stop: run_load(member, plan, queries, meter, stop))
    except NotFinished as error:
        cut_short = error  # what was measured until then is still worth its print
    report = meter.report(rate, clients)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", "utf-8")
    _print(report)
    if cut_short is not None:
        raise cut_short
    if meter.sent and not meter.answered:
        raise typer.Exit(NoResult.exit_code)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(_counts(report))
    console.print()
    console.print(_times(report))


def _counts(report: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    connections = "1 client" if report["clients"] == 1 else f"{report['clients']} clients"
    rate = _number(report["queries_per_s"])
    table.add_row("asked for", f"{report['rate']:g} queries/s from {connections}")
    table.add_row("sent", f"{report['sent']} in {report['duration_s']:.1f} s: {rate} queries/s")
    if report["not_sent"]:
        table.add_row("not sent", f"{report['not_sent']}: too many were in flight")
    outcomes = (f"{outcome} {count}" for outcome, count in report["outcomes"].items())
    table.add_row("outcomes", ", ".join(outcomes) or "none")
    return table


def _times(report: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("milliseconds", style="bold")
    names = list(report["latency_ms"])
    for name in names:
        table.add_column("p99.9" if name == "p999" else name, justify="right")
    for title, key in (("latency", "latency_ms"), ("sender late by", "send_lag_ms")):
        times = report[key]
        table.add_row(title, *(_number(times[name]) if name in times else "" for name in names))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
