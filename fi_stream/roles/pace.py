"""How long a participant's pass takes, and which queries it can still answer in time (DESIGN 8.7).

Pure: rows, seconds taken and seconds left go in.
"""

from __future__ import annotations

from heapq import heappush, heapreplace
from math import sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEEP: Final = 0.75
"""What every pass leaves of the weight of those before it: about the last four count."""

_FAR: Final = 3.0
"""How many times quicker or slower than expected a pass is that is not like those before it."""

_JITTER: Final = 0.05
"""Seconds that a pass may take longer than expected before it counts as far slower."""

_SURE: Final = 2.0
"""Standard deviations that are added to what is likely, and that make a difference a real one."""

_ANY_SIZE: Final = 16
_GROWTH: Final = 4
"""Rows that any pass may have, and how many times larger than the usual one others may be."""

_FILLED: Final = 0.75
"""The part of the time left that a pass of several queries may take."""


class Wanted(NamedTuple):
    """A query: its rows, and the seconds left in which its answer is of use."""

    rows: int
    left: float


class Pace:
    """Seconds of a pass, publishing included, as a fixed part and a part for each row.

    A straight line through the last few passes, and what they scatter about it on top. What is not
    known is tried: before passes of different sizes told what a row takes, it takes nothing; so
    nobody should make a pass of more than `most` rows at once.

    One slow pass moves the line little, and one far quicker than expected shows that the slow ones
    were the exception (a cold model): it begins afresh from that. While it lets nothing be tried
    it learns nothing, so then it is believed less and less, until something is tried.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0
        self._seconds = 0.0
        self._rows_squared = 0.0
        self._both = 0.0
        self._seconds_squared = 0.0
        self._each = 0.0
        self._trust = 1.0

    def seconds(self, rows: int) -> float:
        """What a pass over so many rows is expected to take; nothing before the first pass."""
        return self._trust * self._line(rows)

    @property
    def most(self) -> int:
        """Rows of the largest pass that is not far from those before it."""
        return max(_ANY_SIZE, int(_GROWTH * self._rows))

    def took(self, rows: int, seconds: float) -> None:
        """Learn from one pass."""
        self._trust = 1.0
        if self._weight:
            if seconds * _FAR < self._line(rows):
                self._weight = 0.0
            else:
                expected = max(self._line(rows), self._seconds * rows / self._rows)
                seconds = min(seconds, expected * _FAR + _JITTER)
        self._weight = self._weight * _KEEP + 1
        share = 1 / self._weight
        off_rows, off_seconds = rows - self._rows, seconds - self._seconds
        self._rows += share * off_rows
        self._seconds += share * off_seconds
        self._rows_squared = (1 - share) * (self._rows_squared + share * off_rows**2)
        self._both = (1 - share) * (self._both + share * off_rows * off_seconds)
        self._seconds_squared = (1 - share) * (self._seconds_squared + share * off_seconds**2)
        self._learn_each()

    def gave_up(self) -> None:
        """Nothing was tried, because of this estimate."""
        self._trust /= 2

    def _learn_each(self) -> None:
        """Passes of one size say nothing of what a row takes: then what was known holds."""
        if not self._rows_squared:
            return
        each = self._both / self._rows_squared
        if each**2 * self._rows_squared * self._weight > _SURE**2 * self._scatter(each):
            self._each = max(0.0, each)

    def _scatter(self, each: float) -> float:
        explained = each * (2 * self._both - each * self._rows_squared)
        return max(0.0, self._seconds_squared - explained)

    def _line(self, rows: int) -> float:
        if not self._weight:
            return 0.0
        # No part is less than nothing: at the steepest, all is put down to the rows.
        each = min(self._each, self._seconds / self._rows)
        return self._seconds + each * (rows - self._rows) + _SURE * sqrt(self._scatter(each))


def choose(wanted: Sequence[Wanted], pace: Pace) -> set[int]:
    """Which of these to answer in one pass, by their place: as many as can be in time together.

    The later a query is due the surer is its place; one gives its place up when, without it, the
    others can take in one that is due sooner and has fewer rows. A pass is filled to three quarters
    of the time: all of it is late together, and what is asked meanwhile must be in time, too.
    """
    kept: list[tuple[int, int]] = []
    rows = 0
    for place in sorted(range(len(wanted)), key=lambda each: wanted[each].left, reverse=True):
        own, left = wanted[place]
        if left <= 0:
            break
        most = left * _FILLED if kept else left
        if pace.seconds(rows + own) <= most:
            heappush(kept, (-own, place))
            rows += own
        elif kept and own < -kept[0][0]:
            without = rows + own + kept[0][0]
            if pace.seconds(without) <= most:
                heapreplace(kept, (-own, place))
                rows = without
    return {place for _, place in kept}
