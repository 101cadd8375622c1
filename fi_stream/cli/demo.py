"""`fi-stream demo`: watch a federation of digit readers answer together."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer


def demo(
    queries: Annotated[int, typer.Option(min=1, max=100_000, help="How many to ask.")] = 300,
    alpha: Annotated[
        float, typer.Option(help="How alike the participants' data are: small is very different.")
    ] = 0.5,
    epsilon: Annotated[
        float, typer.Option(help="Noise for each query and participant; `inf` adds none.")
    ] = 8.0,
    participants: Annotated[int, typer.Option(help="How many there are.")] = 5,
    protection: Annotated[
        str | None,
        typer.Option(help="trusted (the default), blind or secagg; then all three are compared."),
    ] = None,
    apache: Annotated[
        bool, typer.Option("--apache", help="On Apache Kafka (needs java and mvn).")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Also write the report to this file.")] = None,
) -> None:
    """Five participants read handwritten digits together, each with its own model and data."""
    import math
    import signal

    from fi_stream.clock import SystemClock
    from fi_stream.demo.data import Division
    from fi_stream.demo.levels import level_of
    from fi_stream.demo.run import Settings, run_demo
    from fi_stream.roles.logs import configure_logs

    clock = SystemClock()
    configure_logs("error")
    # The same as Ctrl+C, which asyncio knows how to end a stream by.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    settings = Settings(
        queries,
        Division(participants=participants, alpha=alpha),
        None if math.isinf(epsilon) else epsilon,
        apache,
        level_of(protection or "trusted"),
        every_level=protection is not None,
    )
    from rich.console import Console

    report = run_demo(settings, Console(), clock)
    if json is not None:
        json.write_text(report.to_json() + "\n", "utf-8")
