"""`python -m bench.utility --traces DIR --json FILE`: what each rule makes of recorded traffic."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.traces import read_folder
from bench.utility import report
from bench.utility.accuracy import measure, over_seeds
from fi_stream.errors import FiStreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.traces import Trace
    from bench.utility.accuracy import Found


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit code of what is wrong with the traces, else 0."""
    asked = _arguments(words)
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        traces = read_folder(asked.traces)
        found = [one for trace in traces for one in _measured(trace, console)]
        if asked.json is not None:
            asked.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    except FiStreamError as error:
        print(f"bench.utility: {error}", file=sys.stderr)
        return error.exit_code
    means = over_seeds(found, [(trace.name, trace.group) for trace in traces])
    console.print(report.accuracy_table(means))
    console.print(report.accuracy_plot(means))
    return 0


def _measured(trace: Trace, console: Console) -> list[Found]:
    participants, rows, classes = trace.logits.shape
    console.print(f"{trace.name}: {participants} participants, {rows} rows, {classes} classes")
    return list(measure(trace))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.utility", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="a folder of *.npz (DESIGN 15)")
    parser.add_argument("--json", type=Path, help="write accuracy of every rule on every trace")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
