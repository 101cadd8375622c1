"""The demo from beginning to end: set up, stream, and report."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
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
from fi_stream.demo.levels import labels, latency, level, shares
from fi_stream.demo.offline import accuracy, predictions, together
from fi_stream.demo.picture import Guess, picture
from fi_stream.demo.processes import Processes
from fi_stream.demo.report import Accuracy, Alone, Counts, Latency, Report
from fi_stream.demo.table import final_table
from fi_stream.demo.training import trained
from fi_stream.demo.wire import bytes_of_a_query
from fi_stream.federation.policy import Protection
from fi_stream.roles.client import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    protection: Protection = Protection.TRUSTED


@dataclass(slots=True, eq=False)
class _Streamed:
    """What came back under each level, in the order of the queries; `sizes` are in bytes."""

    results: dict[Protection, list[Result]]
    refused: Counter[str]
    first_answer: Instant | None = None
    sizes: Mapping[Protection, float] = field(default_factory=dict)


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
            counts = shares(settings.protection, len(asked))
            streamed = _stream(directory, asked, counts, console, clock)
            for said in processes.stop().values():
                streamed.refused.update(said.get("refused", {}))
    report = _report(settings, made, asked, streamed, begun)
    _show_one(made, asked, streamed.results[settings.protection], console)
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
    queries = sum(shares(settings.protection, settings.queries).values())
    write_federation(directory, bootstrap, made, settings.noise, queries)
    if settings.apache:
        processes.start("topics", ["topics", "apply", "--bootstrap", bootstrap])
        processes.finished("topics")
    names = participant_names(len(made.networks))
    processes.start(AGGREGATOR, ["aggregator", str(directory / AGGREGATOR / "member.toml")])
    for name in names:
        processes.start(name, ["participant", str(directory / name / "member.toml")])
    for name in (AGGREGATOR, *names):
        processes.ready(name)


def _stream(
    directory: Path,
    asked: Digits,
    counts: Mapping[Protection, int],
    console: Console,
    clock: Clock,
) -> _Streamed:
    progress = Progress(
        TextColumn("asking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    streamed = _Streamed({each: [] for each in counts}, Counter())
    member = directory / CLIENT / "member.toml"

    async def stream() -> None:
        bar = progress.add_task("", total=sum(counts.values()))
        async with connect(member) as client:
            for protection, count in counts.items():
                results = client.stream(
                    iter(asked.images[:count]),
                    deadline=DEADLINE,
                    protection=protection.value,
                    in_flight=IN_FLIGHT,
                )
                async for result in results:
                    if streamed.first_answer is None and result.decided is not None:
                        streamed.first_answer = clock.monotonic()
                    streamed.results[protection].append(result)
                    progress.advance(bar)
            streamed.refused.update(client.refusals)
        streamed.sizes = await bytes_of_a_query(member)

    with progress:
        asyncio.run(stream())
    return streamed


def _report(
    settings: Settings, made: Trained, asked: Digits, streamed: _Streamed, begun: Instant
) -> Report:
    said = predictions(made.networks, asked.images)
    alone = [
        Alone(accuracy(one.argmax(axis=1), asked.labels), n)
        for one, n in zip(said, made.examples, strict=True)
    ]
    results = streamed.results[settings.protection]
    p50, p99 = latency(results)
    outcomes = Counter("unknown" if r.outcome is None else r.outcome.value for r in results)
    guarantees = [one.guarantee for one in results if one.guarantee is not None]
    first = streamed.first_answer
    return Report(
        counts=Counts(len(results), outcomes, streamed.refused),
        accuracy=Accuracy(
            federation=accuracy(labels(results), asked.labels),
            noiseless=accuracy(together(said, NOISELESS_RULE), asked.labels),
            participants=dict(zip(participant_names(len(alone)), alone, strict=True)),
        ),
        latency=Latency(
            p50=p50,
            p99=p99,
            first_answer_s=None if first is None else first - begun,
        ),
        guarantee=guarantees[-1] if guarantees else None,
        levels={
            each: level(some, asked.labels, streamed.sizes.get(each))
            for each, some in streamed.results.items()
        },
        broker="Apache Kafka" if settings.apache else "embedded (in memory, for development)",
    )


def _show_one(made: Trained, asked: Digits, results: list[Result], console: Console) -> None:
    """Show the query on which the models disagree most, of those that were answered rightly."""
    said = predictions(made.networks, asked.images)
    right = labels(results) == asked.labels
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
