"""`fi-stream aggregator`: join the answers to results."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer


def aggregator(
    file: Annotated[Path, typer.Argument(help="The aggregator's member.toml.")],
) -> None:
    """Join answers by query until stopped (Ctrl+C or SIGTERM)."""
    from fi_stream.roles.aggregator import run_aggregator
    from fi_stream.roles.runtime import run_role

    run_role(lambda stop: run_aggregator(file, stop))
