"""`fi-stream helper`: open secure sums, once for each query."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import Annotated

import typer


def helper(
    file: Annotated[Path, typer.Argument(help="The helper's member.toml.")],
) -> None:
    """Open the sums that an aggregator proposes until stopped (Ctrl+C or SIGTERM)."""
    from fi_stream.roles.helper import run_helper
    from fi_stream.roles.runtime import run_role

    run_role(lambda stop: run_helper(file, stop))
