"""What each member said of the last rows, side by side: of a bounded length, whatever comes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.evidence import DENSITY
from fi_stream.aggregation.spectral import confidences
from fi_stream.aggregation.windows import WINDOWS
from fi_stream.events.payloads import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Asked, Given, Settled
    from fi_stream.aggregation.windows import Windows
    from fi_stream.events.header import Ask
    from fi_stream.values import MemberId


class Kind(IntEnum):
    """What is kept of an answer to one row; NaN where there is none.

    `LABEL` is the index of the best class, -1 of who was waited for and gave no answer; `SURE` its
    probability, `DENSITY` the r that the answer carried, `LATENCY` milliseconds from the query.
    """

    LABEL = 0
    SURE = 1
    DENSITY = 2
    LATENCY = 3


_ROOM = 64
"""Columns at first; more as rows come."""


class Past:
    """The last rows of the members of the newest roster that was seen.

    Args:
        windows: how many rows may be asked for, and in what blocks.
    """

    def __init__(self, windows: Windows = WINDOWS) -> None:
        self._block = windows.block
        self._keep = windows.length + windows.block
        self._end = 0
        self._roster = -1
        self._members: frozenset[MemberId] = frozenset()
        self._places: dict[MemberId, int] = {}
        self._said = np.full((len(Kind), 0, _ROOM), np.nan)
        self.rows = 0
        """How many there ever were."""

    @property
    def blocks(self) -> int:
        """Whole blocks of rows that there ever were."""
        return self.rows // self._block

    @property
    def members(self) -> tuple[MemberId, ...]:
        """Whose answers are kept, in order."""
        return tuple(sorted(self._places))

    def add(self, settled: Settled) -> None:
        """Add what was said to a query, also by those who did not count.

        A member that the newest roster does not have is forgotten, whatever it says.
        """
        asked = settled.asked
        self._follow(asked)
        came = {**settled.answers, **settled.left_out}
        heard = [m for m in came if m in self._places and came[m].prediction is not None]
        stored = min(asked.ask.rows, self._keep)
        self._make_room(stored)
        part = self._said[:, :, self._end : self._end + stored]
        part[:] = np.nan
        part[Kind.LABEL, [self._places[m] for m in _silent(settled) if m in self._places]] = -1.0
        said = _said(asked.ask, [came[member] for member in heard])
        part[:, [self._places[member] for member in heard]] = said[:, :, asked.ask.rows - stored :]
        self._end += stored
        self.rows += asked.ask.rows

    def of(self, rows: slice) -> tuple[tuple[MemberId, ...], NDArray[np.float64]]:
        """A copy of what was said of some rows, which must be among those that are kept.

        Args:
            rows: counted from the first that there ever was.

        Returns:
            The members in order, and [kinds, members, rows].
        """
        first = self._end - self.rows
        places = [self._places[member] for member in self.members]
        return self.members, self._said[:, places, first + rows.start : first + rows.stop]

    def last(self, rows: int) -> slice:
        """The last so many rows, or what is kept of them."""
        return slice(self.rows - min(rows, self._end), self.rows)

    def _make_room(self, rows: int) -> None:
        """For so many more: in more columns up to a bound, then in place of the oldest."""
        _, members, room = self._said.shape
        wanted = self._end + rows
        most = self._keep + self._keep // 4
        if wanted > room and room < most:
            more = min(most, max(wanted, 2 * room)) - room
            fresh = np.full((len(Kind), members, more), np.nan)
            self._said = np.concatenate([self._said, fresh], axis=2)
        if wanted > self._said.shape[2]:
            kept = min(self._end, self._keep, self._said.shape[2] - rows)
            self._said[:, :, :kept] = self._said[:, :, self._end - kept : self._end]
            self._end = kept

    def _follow(self, asked: Asked) -> None:
        """Keep the members of the newest roster, and no others."""
        if asked.roster <= self._roster:
            return
        self._roster, self._members = asked.roster, asked.participants
        staying = [member for member in self.members if member in self._members]
        coming = sorted(self._members.difference(staying))
        before = self._said[:, [self._places[member] for member in staying]]
        fresh = np.full((len(Kind), len(coming), before.shape[2]), np.nan)
        self._said = np.concatenate([before, fresh], axis=1)
        self._places = {member: at for at, member in enumerate([*staying, *coming])}


def _silent(settled: Settled) -> list[MemberId]:
    """Who gave no answer; of a query that was decided early nobody knows, unless it says why."""
    early = settled.outcome is Outcome.DECIDED
    return [member for member, why in settled.missing.items() if why is not None or not early]


def _said(ask: Ask, answers: Sequence[Given]) -> NDArray[np.float64]:
    """What is kept of the answers to a query, as `Kind` has it: [kinds, answers, rows]."""
    said = np.full((len(Kind), len(answers), ask.rows), np.nan)
    if not answers:
        return said
    stack = np.stack([given.prediction for given in answers if given.prediction is not None])
    said[Kind.LABEL] = stack.argmax(axis=2)
    said[Kind.SURE] = confidences(stack)
    for at, given in enumerate(answers):
        if ask.rule == DENSITY and given.own is not None:
            said[Kind.DENSITY, at] = given.own
        said[Kind.LATENCY, at] = max(0, given.answered.at - ask.created)
    return said
