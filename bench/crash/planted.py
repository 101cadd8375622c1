"""Faults planted on purpose, to see that the harness finds them: `... planted FAULT VERB FILE`.

Each is one line of the product gone wrong, in every aggregator of a schedule made for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.crash.checker import Column
from bench.crash.schedule import Action, Schedule, Stroke
from fi_stream.aggregation import evaluate
from fi_stream.aggregation.facts import Marks
from fi_stream.aggregation.join import Join
from fi_stream.cli import main
from fi_stream.roles import aggregator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fi_stream.aggregation.rules import Stack

_SECONDS = 3.0
_QUERIES = 240


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault: how it is planted in this process, what must find it, and when it shows.

    `deadlines` and `strokes` are as in a schedule.
    """

    plant: Callable[[], None]
    column: Column
    deadlines: tuple[int, int]
    strokes: tuple[Stroke, ...]

    def schedule(self) -> Schedule:
        """A short one in which this fault does harm."""
        return Schedule(
            seed=0,
            number=0,
            queries=_QUERIES,
            seconds=_SECONDS,
            deadlines=self.deadlines,
            noised=False,
            strokes=self.strokes,
        )


def _commit_before_effect() -> None:
    """The marks pass what is read, although its queries are open."""
    Join.marks = _nothing_open  # type: ignore[method-assign]


def _nothing_open(self: Join) -> Marks:  # noqa: ARG001 -- in the place of a method
    return Marks(queries=None, responses=None, results=None)


def _no_drain() -> None:
    """A query closes at its deadline, whatever is still to be read."""
    drain = aggregator.Drain
    aggregator.Drain = lambda moment, _: drain(moment, 0)  # type: ignore[assignment,misc]


def _double_count() -> None:
    """The first answer of a query counts again."""
    stacked = evaluate.stacked

    def doubled(queries: Sequence[evaluate.Gathered]) -> Stack:
        once = stacked(queries)
        return np.concatenate([once, once[:1]])

    evaluate.stacked = doubled


def _both(at: float, back: float, action: Action) -> tuple[Stroke, ...]:
    return tuple(Stroke(at, back, each, action) for each in ("a1", "a2"))


FAULTS = {
    # A participant stands still, so that queries stay open over the last commit before the kill.
    "commit before effect": Planted(
        _commit_before_effect,
        Column.LOST,
        (1_500, 2_500),
        (Stroke(0.3, 3.0, "p3", Action.PAUSE), *_both(2.5, 2.5, Action.KILL)),
    ),
    # Aggregators that stand still find deadlines passed and answers unread when they go on.
    "no drain": Planted(
        _no_drain,
        Column.CONTRADICTION,
        (300, 800),
        (*_both(0.5, 1.6, Action.PAUSE), *_both(2.0, 3.1, Action.PAUSE)),
    ),
    "double count": Planted(_double_count, Column.DOUBLED, (300, 800), ()),
}
"""By name; every one is a fault that the harness must find."""


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)].plant()
    main()
