"""`fi-stream participant`: answer queries with a model of your own."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer


def participant(
    file: Annotated[Path, typer.Argument(help="The participant's member.toml.")],
) -> None:
    """Answer the federation's queries until stopped (Ctrl+C or SIGTERM)."""
    from fi_stream.models.threads import available_threads, use_threads

    use_threads(available_threads())  # before anything imports numpy
    from fi_stream.roles.participant import run_participant
    from fi_stream.roles.runtime import run_role

    run_role(lambda stop: run_participant(file, stop))
