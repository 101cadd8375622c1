"""Faults planted on purpose, to see that the harness finds them: `... planted FAULT VERB FILE`.

Each is one line of the product gone wrong, in every role of a schedule made for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.crash.checker import Column
from bench.crash.schedule import Action, Schedule, Stroke
from fi_stream.aggregation import evaluate
from fi_stream.aggregation.facts import Marks
from fi_stream.aggregation.join import Join
from fi_stream.cli import main
from fi_stream.roles import aggregator, leading
from fi_stream.secagg import release, shares
from fi_stream.secagg.proposal import Propose
from fi_stream.secagg.store import Recorded, ReleaseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.aggregation.rules import Stack
    from fi_stream.roles.leading import Leading
    from fi_stream.secagg.shares import Bound
    from fi_stream.secagg.store import Entry
    from fi_stream.transport.port import Outgoing

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
    protection: str = "trusted"

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
            protection=self.protection,
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
        counted = stacked(queries).copy()
        counted[0] *= 2
        return counted

    evaluate.stacked = doubled


def _two_sets() -> None:
    """Leaders propose a second, smaller set, and the helper opens whatever is proposed."""
    events = leading.Leading.events

    def twice(self: Leading, proposed: Iterable[Propose]) -> list[Outgoing]:
        asked = list(proposed)
        return events(self, [*asked, *map(_smaller, asked)])

    leading.Leading.events = twice  # type: ignore[method-assign]
    ReleaseStore.record = _anything  # type: ignore[method-assign]


def _smaller(one: Propose) -> Propose:
    kept = dict(list(one.settled.answers.items())[:2])
    return Propose(replace(one.settled, answers=kept), one.members[:2])


def _anything(self: ReleaseStore, entries: Sequence[Entry]) -> list[Recorded]:  # noqa: ARG001
    return [Recorded.NEW for _ in entries]


def _wrong_seed() -> None:
    """The helper adds the mask of another answer."""
    whole = shares.mask

    def other(seed: bytes, bound: Bound) -> NDArray[np.uint64]:
        return whole(seed, replace(bound, participant="p9"))

    release.mask = other  # type: ignore[attr-defined]


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
    "two sets": Planted(_two_sets, Column.SECOND_SET, (1_000, 2_000), (), "secagg"),
    "wrong seed": Planted(_wrong_seed, Column.CONTRADICTION, (1_000, 2_000), (), "secagg"),
}
"""By name; every one is a fault that the harness must find."""


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)].plant()
    main()
