"""`python -m bench.utility --traces DIR --json FILE`: what each rule makes of recorded traffic."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.utility import accuracy, attacks, cost, liar, report, robustness, watching
from fi_stream.aggregation.guard import GUARDED, UNGUARDED
from fi_stream.errors import FiStreamError
from fi_stream.roles.traces import read_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.utility.attacks import Attacks
    from fi_stream.roles.traces import Trace

SECTIONS = ("accuracy", "liar", "attacks", "health", "cost")


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit code of what is wrong with traces or an attack, else 0."""
    asked = _arguments(words)
    console = Console(width=None if sys.stdout.isatty() else 200)
    if asked.json is not None and not asked.json.parent.is_dir():
        print(f"bench.utility: --json: there is no folder {asked.json.parent}", file=sys.stderr)
        return 3
    try:
        attacked = attacks.with_own(asked.attack)
        traces = read_folder(asked.traces)
    except FiStreamError as error:
        print(f"bench.utility: {error}", file=sys.stderr)
        return error.exit_code
    try:
        _sections(asked, traces, attacked, console)
    except FiStreamError as error:  # an attack of somebody's own says what is no prediction
        print(f"bench.utility: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _sections(
    asked: argparse.Namespace, traces: Sequence[Trace], attacked: Attacks, console: Console
) -> None:
    for trace in traces:
        participants, rows, classes = trace.logits.shape
        console.print(f"{trace.name}: {participants} participants, {rows} rows, {classes} classes")
    sections = asked.sections or (["attacks"] if asked.attack else ["accuracy", "liar"])
    if "accuracy" in sections or asked.json is not None:
        _accuracy(traces, asked.json, console)
    if "liar" in sections:
        console.print(robustness.liar_table([one for t in traces for one in liar.measure(t)]))
    if "attacks" in sections:
        for guard, said in ((UNGUARDED, "without cap and gate"), (GUARDED, "with cap and gate")):
            found = [one for trace in traces for one in attacks.measure(trace, guard, attacked)]
            console.print(robustness.attack_table(found, said))
    if "health" in sections:
        console.print(watching.table([watching.measure(trace) for trace in traces]))
    if "cost" in sections:
        cost.show()


def _accuracy(traces: Sequence[Trace], file: Path | None, console: Console) -> None:
    found = [one for trace in traces for one in accuracy.measure(trace)]
    if file is not None:
        file.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    means = accuracy.over_seeds(found, [(trace.name, trace.group) for trace in traces])
    console.print(report.accuracy_table(means))
    console.print(report.accuracy_plot(means))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.utility", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help="a folder of *.npz (DESIGN 15)")
    parser.add_argument("--json", type=Path, help="write accuracy of every rule on every trace")
    parser.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="an attack of your own, beside ours; may be given again",
    )
    parser.add_argument(
        "sections",
        nargs="*",
        choices=[[], *SECTIONS],
        help=f"of {', '.join(SECTIONS)}; when none is named accuracy and liar, or with --attack "
        "attacks",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
