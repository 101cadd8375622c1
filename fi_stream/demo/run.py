"""The demo from beginning to end: set up, stream, and report."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fi_stream.demo.asking import Asking
from fi_stream.demo.data import Digits, Division, queries
from fi_stream.demo.different import very_different
from fi_stream.demo.federation import AGGREGATOR, HELPER, participant_names, write_federation
from fi_stream.demo.levels import WITHOUT_NOISE, groups, labels, latency, level
from fi_stream.demo.offline import accuracy, predictions, ratios, together
from fi_stream.demo.picture import Guess, picture
from fi_stream.demo.processes import Processes
from fi_stream.demo.report import Accuracy, Alone, Counts, Latency, Report
from fi_stream.demo.table import final_table
from fi_stream.demo.training import trained
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from rich.console import Console

    from fi_stream.clock import Clock
    from fi_stream.demo.levels import Group
    from fi_stream.demo.training import Trained
    from fi_stream.roles.result import Result
    from fi_stream.values import Instant


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo is asked to show; `epsilon` is of each query, None for no noise.

    With `every_level` it compares all of them, also those that need a federation of their own.
    """

    queries: int
    division: Division
    epsilon: float | None
    apache: bool
    protection: Protection = Protection.TRUSTED
    every_level: bool = False


def run_demo(settings: Settings, console: Console, clock: Clock) -> Report:
    """Run the demo and print it as it goes.

    Raises:
        FiStreamError: a process did not become ready, or the settings are wrong.
    """
    begun = clock.monotonic()
    division = settings.division
    together = groups(
        settings.protection, settings.epsilon, settings.queries, division.participants
    )
    together = together if settings.every_level else together[:1]
    made = _train(division, console)
    asked = queries(made.test, settings.queries)
    progress = Progress(
        TextColumn("asking"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    bar = progress.add_task("", total=sum(group.queries for group in together))
    asking = Asking(asked, clock, lambda: progress.advance(bar))
    with tempfile.TemporaryDirectory(prefix="fi_stream-demo-") as name:
        directory = Path(name)
        with Processes(directory, clock) as broker:
            bootstrap = _start_broker(broker, settings)
            for number, group in enumerate(together, start=1):
                home = directory / f"federation-{number}"
                home.mkdir()
                with Processes(home, clock) as roles:
                    _start(roles, home, bootstrap, made, group)
                    with progress:
                        asyncio.run(asking.ask(home, group))
                    stopped = roles.stop()
                for said in stopped.values() if number == 1 else ():
                    asking.refused.update(said.get("refused", {}))
    report = replace(
        _report(settings, made, asked, asking, begun),
        different=very_different(
            division,
            settings.queries,
            lambda n: console.print(f"p{n + 1} trains on very different digits, too ..."),
        ),
    )
    _show_one(made, asked, asking.results[settings.protection], console)
    console.print(final_table(report))
    return report


def _train(division: Division, console: Console) -> Trained:
    names = participant_names(division.participants)
    return trained(
        division,
        training=lambda number: console.print(f"{names[number]} trains on its own digits ..."),
    )


def _start_broker(processes: Processes, settings: Settings) -> str:
    """Start the broker; returns its address."""
    processes.start("broker", ["broker", *(["--apache"] if settings.apache else [])])
    bootstrap = processes.first_line("broker").rpartition("= ")[2]
    if settings.apache:
        processes.start("topics", ["topics", "apply", "--bootstrap", bootstrap])
        processes.finished("topics")
    return bootstrap


def _start(
    processes: Processes, directory: Path, bootstrap: str, made: Trained, group: Group
) -> None:
    """Start every role of a federation, and wait until all are ready."""
    write_federation(directory, bootstrap, made, group)
    roles = {AGGREGATOR: "aggregator"}
    roles |= {HELPER: "helper"} if Protection.SECAGG in group.counts else {}
    roles |= dict.fromkeys(participant_names(len(made.networks)), "participant")
    for name, role in roles.items():
        processes.start(name, [role, str(directory / name / "member.toml")])
    for name in roles:
        processes.ready(name)


def _report(
    settings: Settings, made: Trained, asked: Digits, asking: Asking, begun: Instant
) -> Report:
    said = predictions(made.networks, asked.images)
    alone = [
        Alone(accuracy(one.argmax(axis=1), asked.labels), n)
        for one, n in zip(said, made.examples, strict=True)
    ]
    own = ratios(made, asked.images)
    results = asking.results[settings.protection]
    p50, p99 = latency(results)
    outcomes = Counter("unknown" if r.outcome is None else r.outcome.value for r in results)
    guarantees = [one.guarantee for one in results if one.guarantee is not None]
    first = asking.first_answer
    return Report(
        counts=Counts(len(results), outcomes, asking.refused),
        accuracy=Accuracy(
            federation=accuracy(labels(results), asked.labels),
            noiseless=accuracy(together(said, WITHOUT_NOISE, made.examples, own), asked.labels),
            participants=dict(zip(participant_names(len(alone)), alone, strict=True)),
        ),
        latency=Latency(
            p50=p50,
            p99=p99,
            first_answer_s=None if first is None else first - begun,
        ),
        guarantee=guarantees[-1] if guarantees else None,
        levels={
            each: level(some, asked.labels, asking.sizes.get(each))
            for each, some in asking.results.items()
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
