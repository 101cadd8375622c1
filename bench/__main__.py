"""`python -m bench`: what fi_stream takes beside others, and what it stands.

Its parts, all or those that are named: `compare` runs every pipeline in turn on one Apache Kafka,
`overload` offers fi_stream too much there, `noise` takes each mechanism; `open` and `hostile` need
no broker.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import costs, docs, hostile, noise, open_queries, overload, profiling, report, standing
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

OPEN, HOSTILE = 100_000, 1_000_000
"""Queries open at once, and events that nobody should send."""

QUICK = 20
"""By how much less of both is done in a quick run."""

SEED = 1
PARTS = ("compare", "open", "hostile", "overload", "noise")


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 when every pipeline was correct, whatever its speed."""
    asked = _arguments(words)
    console = Console(width=110 if not sys.stdout.isatty() else None)
    configure_logs("error")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # So that `kill` unwinds as Ctrl+C does, and no process stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    document: dict[str, Any] = {"machine": _machine()}
    broken: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="fi-stream-bench-") as folder:
            for part in asked.parts:
                broken += _part(console, part, Path(folder), asked, document)
        if asked.json is not None:
            text = json.dumps(document, indent=2, allow_nan=False)
            asked.json.write_text(text + "\n", "utf-8")
    except (BenchFailed, FiStreamError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for what in broken:
        print(f"broken: {what}", file=sys.stderr)
    return 1 if broken else 0


def _part(
    console: Console, part: str, folder: Path, asked: argparse.Namespace, document: dict[str, Any]
) -> list[str]:
    """Run one part, show it, and put it into the document; what must hold and does not."""
    if part == "compare":
        with ApacheBroker() as kafka:
            if asked.profile:
                _profile(console, kafka.bootstrap, folder)
            else:
                document |= _compare(console, kafka.bootstrap, folder, asked)
        return []
    console.print(f"{standing.TITLES[part]} ...", style="dim")
    lines, document[part] = _RUN[part](folder, asked.quick)
    standing.show(console, part, lines)
    if asked.docs:
        docs.write_part(part, standing.markdown(lines), _machine())
    return standing.broken(lines)


def _open(_folder: Path, quick: bool) -> tuple[list[standing.Line], Any]:
    count = OPEN // QUICK if quick else OPEN
    spreads = open_queries.SPREADS[-1:] if quick else open_queries.SPREADS
    held = open_queries.held(count)
    settled = [open_queries.settling(count, spread) for spread in spreads]
    figures = {"held": asdict(held), "settling": [asdict(one) for one in settled]}
    return standing.of_open(held, settled), figures


def _hostile(_folder: Path, quick: bool) -> tuple[list[standing.Line], Any]:
    fared = hostile.feed(HOSTILE // QUICK if quick else HOSTILE, SEED)
    return standing.of_hostile(fared), asdict(fared)


def _overload(folder: Path, quick: bool) -> tuple[list[standing.Line], Any]:
    wanted = overload.QUICK if quick else overload.WHOLE
    with ApacheBroker() as kafka:
        seen = overload.overload(Setting(kafka.bootstrap, "overload", folder / "overload"), wanted)
    return standing.of_overload(seen), asdict(seen)


def _noise(folder: Path, quick: bool) -> tuple[list[standing.Line], Any]:
    rounds, seconds = (1, 1.0) if quick else (noise.ROUNDS, noise.SECONDS)
    alone = noise.alone(seconds)
    with ApacheBroker() as kafka:
        wholes = noise.wholes(kafka.bootstrap, folder, rounds, seconds)
    figures = {"whole": [asdict(one) for one in wholes], "alone": [asdict(one) for one in alone]}
    return standing.of_noise(wholes, alone), figures


_RUN = {"open": _open, "hostile": _hostile, "overload": _overload, "noise": _noise}


def _compare(
    console: Console, bootstrap: str, folder: Path, asked: argparse.Namespace
) -> dict[str, Any]:
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
    return report.document(found, steps, machine)


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
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named"
    )
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
    asked = parser.parse_args(words)
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    asked.parts = ["compare"] if asked.profile else asked.parts or list(PARTS)
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
