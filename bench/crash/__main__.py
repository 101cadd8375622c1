"""`python -m bench.crash`: seeded schedules of kills on one Apache Kafka, then the table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError
from rich.console import Console

from bench.crash import report
from bench.crash.broker import SETTINGS
from bench.crash.checker import broken, check
from bench.crash.cluster import run
from bench.crash.planted import FAULTS
from bench.crash.processes import last_lines
from bench.crash.schedule import BOUND_MS, draw
from bench.rounds import BenchFailed
from bench.setting import ONE_THREAD
from fi_stream.errors import FiStreamError
from fi_stream.roles.logs import configure_logs
from fi_stream.transport.apache import KAFKA_VERSION, ApacheBroker
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.crash.cluster import Ran
    from bench.crash.report import Line

_FAILURES = (BenchFailed, FiStreamError, KafkaError, TimeoutError)
"""What ends one schedule, which has failed then, and not those after it."""


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 when every schedule kept every promise."""
    asked = _arguments(words)
    console = Console(width=130 if not sys.stdout.isatty() else None)
    configure_logs("error")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # So that `kill` unwinds as Ctrl+C does, and no process stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.update(ONE_THREAD)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fi-stream-crash-") as folder,
            ApacheBroker(settings=SETTINGS) as kafka,
        ):
            if asked.planted:
                return asyncio.run(_find_planted(console, kafka, Path(folder)))
            lines = asyncio.run(_run(console, kafka, Path(folder), asked))
    except (BenchFailed, FiStreamError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(report.table(lines))
    if asked.json is not None:
        whole = report.document(lines, asked.seed, _machine())
        asked.json.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", "utf-8")
    for complaint in report.complaints(lines):
        print(complaint, file=sys.stderr)
    return 1 if any(line.verdict.faults for line in lines) else 0


async def _run(
    console: Console, kafka: ApacheBroker, folder: Path, asked: argparse.Namespace
) -> list[Line]:
    await apply(Connection.to(kafka.bootstrap))
    lines = []
    for number in range(asked.first, asked.first + asked.schedules):
        drawn, place = draw(asked.seed, number, asked.protection), folder / str(number)
        schedule = replace(drawn, bound_ms=round(1000 * asked.bound))
        ran: Ran | None = None
        kills: Mapping[str, int] = {}
        try:
            ran = await run(schedule, kafka, place)
            verdict, kills = check(ran.history, ran.terms), ran.kills
        except _FAILURES as error:
            verdict = broken(f"{type(error).__name__}: {error}")
        lines.append(report.Line(number, schedule.noised, kills, verdict))
        console.print(report.said(lines[-1]), style=None if verdict.faults else "dim")
        if verdict.faults:
            trace = report.write_trace(asked.traces, schedule, verdict, last_lines(place), ran)
            console.print(f"  its trace is in {trace}")
        shutil.rmtree(place, ignore_errors=True)
    return lines


async def _find_planted(console: Console, kafka: ApacheBroker, folder: Path) -> int:
    """Whether every planted fault is found: 0, or 1 when one was missed."""
    await apply(Connection.to(kafka.bootstrap))
    missed = 0
    for name, fault in FAULTS.items():
        roles = ("bench.crash.planted", name)
        ran = await run(fault.schedule(), kafka, folder / name, roles)
        found = check(ran.history, ran.terms).count(fault.column)
        console.print(f"{name}: {found} {fault.column}" if found else f"{name}: not found")
        missed += not found
    return 1 if missed else 0


def _machine() -> dict[str, object]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__)
    parser.add_argument("--schedules", type=int, default=15, metavar="N", help="how many")
    parser.add_argument(
        "--protection",
        choices=("trusted", "blind", "secagg"),
        default="trusted",
        help="the level of all queries; secagg has a helper, whose processes are killed, too",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what they are drawn from")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="the number of the first, to run one again",
    )
    parser.add_argument(
        "--bound",
        type=float,
        default=BOUND_MS / 1000,
        metavar="SECONDS",
        help="how late a result may be; longer on a machine that has other work, too (default: 5)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument(
        "--traces",
        type=Path,
        default=Path("crash-traces"),
        metavar="DIR",
        help="where the traces of failed schedules go (default: crash-traces)",
    )
    parser.add_argument(
        "--planted",
        action="store_true",
        help="plant known faults instead, and see that each is found",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    raise SystemExit(main())
