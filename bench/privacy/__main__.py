"""`python -m bench.privacy`: is anything useful left at epsilon 1, 2, 4, 8, 16 of one row?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench import docs
from bench.privacy import report
from bench.privacy.measure import measure
from bench.privacy.replaying import Replaying
from bench.privacy.traces import read_traces, trained_traces
from fi_stream.errors import FiStreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = docs.PAGE.with_name("privacy.md")


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 when it could be measured."""
    asked = _arguments(words)
    console = Console(width=130 if not sys.stdout.isatty() else None)
    progress = Console(stderr=True)
    try:
        traces = read_traces(asked.traces) if asked.traces else trained_traces()
        source = Replaying()
        measured = []
        for trace in traces:
            progress.print(f"{trace.name} ...", style="dim")
            measured += list(measure(trace, source))
    except FiStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    averaged = report.averages(measured, {trace.name: trace.group for trace in traces})
    report.show(console, averaged)
    if asked.json is not None:
        text = json.dumps([asdict(one) for one in measured], indent=2, allow_nan=False)
        asked.json.write_text(text + "\n", "utf-8")
    if asked.docs:
        _write_docs(averaged, asked.traces is not None)
    picture = asked.picture or (asked.json and asked.json.with_suffix(".svg"))
    if picture is not None:
        picture.write_text(report.picture(averaged), "utf-8")
        console.print(f"\nThe same as a picture: {picture}")
    return 0


def _write_docs(averaged: report.Averages, from_traces: bool) -> None:
    mark = "privacy on traces" if from_traces else "privacy"
    docs.put(f"<!-- results of {mark} -->", report.markdown(averaged), PAGE)
    if from_traces:
        PAGE.with_suffix(".svg").write_text(report.picture(averaged), "utf-8")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.privacy", description=__doc__)
    parser.add_argument(
        "--traces", type=Path, metavar="DIR", help="of *.npz; without, digits are trained on"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write every figure there, and a picture beside it",
    )
    parser.add_argument("--docs", action="store_true", help="write the table into docs/privacy.md")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write the picture (SVG) there instead"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
