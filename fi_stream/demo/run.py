"""The demo from beginning to end: set up, stream, and report."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fi_stream.demo.data import Digits, Division, queries
from fi_stream.demo.federation import (
    AGGREGATOR,
    CLIENT,
    Noise,
    participant_names,
    write_federation,
)
from fi_stream.demo.offline import accuracy, predictions, together
from fi_stream.demo.picture import Guess, picture
from fi_stream.demo.processes import Processes
from fi_stream.demo.report import Accuracy, Alone, Counts, Latency, Report
from fi_stream.demo.table import final_table
from fi_stream.demo.training import trained
from fi_stream.federation.policy import Protection
from fi_stream.roles.client import connect

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from fi_stream.clock import Clock
    from fi_stream.demo.training import Trained
    from fi_stream.roles.result import Result
    from fi_stream.values import Instant

DEADLINE = 2.0
IN_FLIGHT = 8
NOISELESS_RULE = "soft"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo is asked to show."""

    queries: int
    division: Division
    noise: Noise
    apache: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Streamed:
    """What came back, in the order of the queries."""

    results: list[Result]
    first_answer: Instant | None
    refused: Counter[str]


def run_demo(settings: Settings, console: Console, clock: Clock) -> Report:
    """Run the demo and print it as it goes.

    Raises:
        FiStreamError: a process did not become ready, or the settings are wrong.
    """
    begun = clock.monotonic()
    made = _train(settings.division, console)
    asked = queries(made.test, settings.queries)
    with tempfile.TemporaryDirectory(prefix="fi_stream-demo-") as name:
        directory = Path(name)
        with Processes(directory, clock) as processes:
            _start(processes, directory, made, settings)
            streamed = _stream(directory, asked, console, clock)
            for said in processes.stop().values():
                streamed.refused.update(said.get("refused", {}))
    report = _report(settings, made, asked, streamed, begun)
    _show_one(made, asked, streamed.results, console)
    console.print(final_table(report))
    return report


def _train(division: Division, console: Console) -> Trained:
    names = participant_names(division.participants)
    return trained(
        division,
        training=lambda number: console.print(f"{names[number]} trains on its own digits ..."),
    )


def _start(processes: Processes, directory: Path, made: Trained, settings: Settings) -> None:
    """Start the broker, then every role, and wait until all are ready."""
    processes.start("broker", ["broker", *(["--apache"] if settings.apache else [])])
    bootstrap = processes.first_line("broker").rpartition("= ")[2]
    write_federation(directory, bootstrap, made, settings.noise, settings.queries)
    if settings.apache:
        processes.start("topics", ["topics", "apply", "--bootstrap", bootstrap])
        processes.finished("topics")
    names = participant_names(len(made.networks))
    processes.start(AGGREGATOR, ["aggregator", str(directory / AGGREGATOR / "member.toml")])
    for name in names:
        processes.start(name, ["participant", str(directory / name / "member.toml")])
    for name in (AGGREGATOR, *names):
        processes.ready(name)


def _stream(directory: Path, asked: Digits, console: Console, clock: Clock) -> _Streamed:
    progress = Progress(
        TextColumn("asking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    streamed = _Streamed([], None, Counter())

    async def stream() -> _Streamed:
        first: Instant | None = None
        bar = progress.add_task("", total=len(asked))
        async with connect(directory / CLIENT / "member.toml") as client:
            rows = iter(asked.images)
            async for result in client.stream(rows, deadline=DEADLINE, in_flight=IN_FLIGHT):
                if first is None and result.decided is not None:
                    first = clock.monotonic()
                streamed.results.append(result)
                progress.advance(bar)
            streamed.refused.update(client.refusals)
        return _Streamed(streamed.results, first, streamed.refused)

    with progress:
        return asyncio.run(stream())


def _report(
    settings: Settings, made: Trained, asked: Digits, streamed: _Streamed, begun: Instant
) -> Report:
    said = predictions(made.networks, asked.images)
    alone = [
        Alone(accuracy(one.argmax(axis=1), asked.labels), n)
        for one, n in zip(said, made.examples, strict=True)
    ]
    results = streamed.results
    latencies = [one.latency_ms for one in results if one.outcome is not None]
    outcomes = Counter("unknown" if r.outcome is None else r.outcome.value for r in results)
    guarantees = [one.guarantee for one in results if one.guarantee is not None]
    first = streamed.first_answer
    return Report(
        counts=Counts(len(results), outcomes, streamed.refused),
        accuracy=Accuracy(
            federation=accuracy(_labels(results), asked.labels),
            noiseless=accuracy(together(said, NOISELESS_RULE), asked.labels),
            participants=dict(zip(participant_names(len(alone)), alone, strict=True)),
        ),
        latency=Latency(
            p50=float(np.percentile(latencies, 50)) if latencies else None,
            p99=float(np.percentile(latencies, 99)) if latencies else None,
            first_answer_s=None if first is None else first - begun,
        ),
        guarantee=guarantees[-1] if guarantees else None,
        protection=Protection.TRUSTED,
        broker="Apache Kafka" if settings.apache else "embedded (in memory, for development)",
    )


def _labels(results: list[Result]) -> NDArray[np.int64]:
    """The label of each query; -1 where there is none."""
    return np.array([-1 if one.decided is None else one.decided.labels[0] for one in results])


def _show_one(made: Trained, asked: Digits, results: list[Result], console: Console) -> None:
    """Show the query on which the models disagree most, of those that were answered rightly."""
    said = predictions(made.networks, asked.images)
    right = _labels(results) == asked.labels
    wrong = (said.argmax(axis=2) != asked.labels).sum(axis=0)
    number = int(np.argmax(np.where(right, wrong, -1)))
    names = participant_names(len(made.networks))
    alone = tuple(
        Guess(name, str(one[number].argmax()), float(one[number].max()))
        for name, one in zip(names, said, strict=True)
    )
    decided = results[number].decided
    outcome = results[number].outcome
    answer: Guess | str = "unknown" if outcome is None else outcome.value
    if decided is not None:
        label = int(decided.labels[0])
        answer = Guess(
            "together, as streamed", decided.names[label], float(decided.scores[0, label])
        )
    truth = str(asked.labels[number])
    console.print(picture(asked.images[number], truth, alone, answer))
