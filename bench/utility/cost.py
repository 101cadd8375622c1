"""What each rule costs an aggregator for each response, without a broker.

A process of its own: a library for matrices that shares two busy cores among threads of its own is
slower by far than in one.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.setting import ONE_THREAD
from fi_stream.aggregation.certificate import certify
from fi_stream.aggregation.competence import density_standing, density_weights
from fi_stream.aggregation.dawid_skene import dawid_skene
from fi_stream.aggregation.dependence import gate
from fi_stream.aggregation.evidence import NAMES, Evidence, scores
from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.past import Past
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.aggregation.windows import WINDOWS
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.federation.policy import Protection
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTICIPANTS, CLASSES = 10, 10
TARGET_US = 20.0
SETTLED_TOGETHER = 64
"""Queries that a busy aggregator decides in one pass."""

_TIMES = 7


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds for each response: alone, and when queries are settled together."""

    what: str
    alone: float
    together: float


def show() -> None:
    """Measure and print in a process with one thread."""
    environment = {**os.environ, **ONE_THREAD}
    subprocess.run([sys.executable, "-m", "bench.utility.cost"], check=True, env=environment)


def measure() -> list[Cost]:
    """Every rule, then what is learnt once a block of queries."""
    gc.collect()
    gc.disable()
    try:
        return [*(_rule(name) for name in NAMES), *_learning()]
    finally:
        gc.enable()


def table(found: Sequence[Cost]) -> Table:
    """A rule a line, in red what is above the target."""
    shown = Table(
        title=f"microseconds a response, {PARTICIPANTS} participants, {CLASSES} classes: "
        f"at most {TARGET_US:g}",
        title_justify="left",
    )
    shown.add_column("rule or what it learns", no_wrap=True)
    shown.add_column("a query alone", justify="right")
    shown.add_column(f"{SETTLED_TOGETHER} queries together", justify="right")
    for one in found:
        colour = "" if one.together <= TARGET_US else "red"
        shown.add_row(one.what, f"{one.alone:.1f}", Text(f"{one.together:.1f}", colour))
    return shown


def _rule(name: str) -> Cost:
    return _of_a_query(name, lambda evidence: scores(name, evidence))


def _learning() -> list[Cost]:
    """What is done once a block or a window, for each of its responses; and the certificate."""
    past = _evidence(WINDOWS.length)
    labels = past.predictions.argmax(axis=2)
    each = WINDOWS.block * PARTICIPANTS
    ratios = density_weights(np.log(np.maximum(past.predictions[..., 0], 1e-3)))
    learnt: dict[str, Callable[[], object]] = {
        "spectral weights, a block": lambda: spectral_weights(confidences(past.predictions)),
        "standing of density, a block": lambda: density_standing(ratios),
        "gate, a block": lambda: gate(labels),
    }
    found = [_of_many(what, _micros(do) / each) for what, do in learnt.items()]
    whole = WINDOWS.length * PARTICIPANTS
    micros = _micros(lambda: dawid_skene(labels, CLASSES))
    found.append(_of_many("health, a window", micros / whole))
    certified = _of_a_query("certificate", lambda one: certify("entropy", one))
    return [*found, _window(), certified]


def _window() -> Cost:
    """What a running aggregator does to have a past: it takes in query by query."""
    add = partial(Past().add, _settled(_evidence(1)))
    return _of_many("window, a query", _micros(add) / PARTICIPANTS)


def _settled(evidence: Evidence) -> Settled:
    """A query that was answered so."""
    members = [f"p{number}" for number in range(PARTICIPANTS)]
    ask = Ask(
        query=bytes(16),
        partition=0,
        rule="soft",
        rows=evidence.predictions.shape[1],
        protection=Protection.TRUSTED,
        created=0,
        deadline=1,
    )
    asked = Asked("client", bytes(32), ask, 1, frozenset(members))
    answers = {
        member: Given(Answered(member, asked.digest, BrokerMillis(1)), "model", prediction)
        for member, prediction in zip(members, evidence.predictions, strict=True)
    }
    return Settled(asked, Outcome.COMPLETE, answers, {})


def _of_a_query(what: str, do: Callable[[Evidence], object]) -> Cost:
    found = {}
    for rows in (1, SETTLED_TOGETHER):
        evidence = _evidence(rows)
        found[rows] = _micros(partial(do, evidence)) / (rows * PARTICIPANTS)
    return Cost(what, found[1], found[SETTLED_TOGETHER])


def _of_many(what: str, micros: float) -> Cost:
    return Cost(what, micros, micros)


def _evidence(rows: int) -> Evidence:
    rng = np.random.default_rng(rows)
    predictions = rng.dirichlet(np.ones(CLASSES) / 3, (PARTICIPANTS, rows))
    sizes = rng.integers(50, 200, (PARTICIPANTS, 1)).astype(np.float64)
    return Evidence(predictions, sizes, rng.random((PARTICIPANTS, rows)), rng.random((10, 1)))


def _micros(do: Callable[[], object]) -> float:
    """The fastest of several runs: what else the machine does can only add."""
    fastest = np.inf
    for _ in range(_TIMES):
        start = perf_counter()
        do()
        fastest = min(fastest, perf_counter() - start)
    return float(fastest * 1e6)


if __name__ == "__main__":
    Console(width=None if sys.stdout.isatty() else 120).print(table(measure()))
