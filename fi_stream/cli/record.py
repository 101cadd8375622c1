"""`fi-stream record`: an aggregator that keeps what it settles in a file."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer


def record(
    file: Annotated[Path, typer.Argument(help="The aggregator's member.toml.")],
    recording: Annotated[Path, typer.Argument(help="A new file to record to.")],
) -> None:
    """Join answers like `aggregator`, and keep each query, its answers and its result in a file.

    Only where the policy says `recording = true`, and only what the aggregator may open.
    """
    from fi_stream.roles.aggregator import run_aggregator
    from fi_stream.roles.runtime import run_role

    run_role(lambda stop: run_aggregator(file, stop, record=recording))
