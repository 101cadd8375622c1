"""`fi-stream check FILE...`: what is wrong in configuration files, and the fix."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fi_stream.cli.findings import Checked


def check(
    files: Annotated[
        list[Path], typer.Argument(help="federation.toml, member.toml or a card; any number.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check configuration files: each mistake with its file, line or key, and the fix.

    A member.toml is checked with its keys, its federation and its model's files. Ends with 0 when
    all is well, else with 3.
    """
    from fi_stream.cli.findings import check_file
    from fi_stream.errors import ConfigError

    checked = [check_file(file) for file in files]
    wrong = any(one.mistakes for one in checked)
    if as_json:
        print(json.dumps({"ok": not wrong, "files": [_plain(one) for one in checked]}, indent=2))
    else:
        for one in checked:
            _print(one)
    raise typer.Exit(ConfigError.exit_code if wrong else 0)


def _plain(one: Checked) -> dict[str, object]:
    return {
        "file": str(one.file),
        "kind": one.kind,
        "summary": one.summary,
        "mistakes": [
            {"file": str(m.file), "line": m.line, "key": m.key or None, "message": m.what}
            for m in one.mistakes
        ],
    }


def _print(one: Checked) -> None:
    if not one.mistakes:
        print(f"ok     {one.file}: {one.kind}, {one.summary}")
    for mistake in one.mistakes:
        print(f"wrong  {mistake}")
