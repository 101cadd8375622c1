"""`python -m bench`: every pipeline in turn on one Apache Kafka, then the table."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench import costs, docs, profiling, report
from bench.load import Plan
from bench.rounds import BenchFailed, measure
from bench.setting import Setting
from fi_stream.errors import FiStreamError
from fi_stream.roles.logs import configure_logs
from fi_stream.transport.apache import KAFKA_VERSION, ApacheBroker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rounds import Measured

RATE = 50.0
WINDOWS = (256, 1024)
ROUNDS = 3


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 when every pipeline was correct, whatever its speed."""
    asked = _arguments(words)
    console = Console(width=110 if not sys.stdout.isatty() else None)
    configure_logs("warning")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # So that `kill` unwinds as Ctrl+C does, and no process stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fi-stream-bench-") as folder,
            ApacheBroker() as kafka,
        ):
            if asked.profile:
                _profile(console, kafka.bootstrap, Path(folder))
            else:
                _compare(console, kafka.bootstrap, Path(folder), asked)
    except (BenchFailed, FiStreamError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _compare(console: Console, bootstrap: str, folder: Path, asked: argparse.Namespace) -> None:
    rounds = 1 if asked.quick else ROUNDS
    seconds = min(asked.seconds, 1.0) if asked.quick else asked.seconds
    plan = Plan(RATE, seconds, WINDOWS[:1] if asked.quick else WINDOWS, seconds * 0.6)
    found: dict[str, list[Measured]] = {name: [] for name in report.TITLES}
    for number in range(rounds):
        for name, measured in found.items():
            console.print(f"round {number + 1} of {rounds}: {report.TITLES[name]} ...", style="dim")
            place = Setting(bootstrap, f"{name}-{number}", folder / f"{name}-{number}")
            measured.append(measure(name, place, plan))
    steps = costs.measure()
    machine = _machine()
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), style="dim")
    summary = {name: report.figures(measured) for name, measured in found.items()}
    report.show(console, summary)
    report.show_costs(console, steps)
    if asked.docs:
        docs.write(summary, steps, machine)
    if asked.json is not None:
        whole = report.document(found, steps, machine)
        asked.json.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", "utf-8")


def _profile(console: Console, bootstrap: str, folder: Path) -> None:
    setting = Setting(bootstrap, "profile", folder / "profile")
    report.show_profile(console, profiling.profile(setting, "sealed"))
    report.show_costs(console, costs.measure())


def _machine() -> dict[str, object]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of light load in each round (default: 4)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all")
    parser.add_argument(
        "--docs", action="store_true", help="write the results into docs/benchmarks.md"
    )
    parser.add_argument(
        "--profile", action="store_true", help="where fi_stream's time goes, instead of comparing"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
