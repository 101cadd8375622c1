"""What each member said of the last rows, side by side: of a bounded length, whatever comes."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Asked
    from fi_stream.values import MemberId


class Kind(IntEnum):
    """What is kept of an answer to one row; NaN where there is none.

    `LABEL` is the index of the best class, -1 of who was asked and gave no answer; `SURE` its
    probability, `DENSITY` the r that the answer carried, `LATENCY` milliseconds from the query.
    """

    LABEL = 0
    SURE = 1
    DENSITY = 2
    LATENCY = 3


class Past:
    """The last rows of the members of the newest roster that was seen.

    Args:
        length: how many rows may be asked for.
        block: how many more are kept, so that whole blocks may be asked for.
    """

    def __init__(self, length: int, block: int) -> None:
        self._block = block
        self._keep = length + block
        self._end = 0
        self._roster = -1
        self._members: frozenset[MemberId] = frozenset()
        self._places: dict[MemberId, int] = {}
        self._said = np.full((len(Kind), 0, 2 * self._keep), np.nan)
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

    def add(self, asked: Asked, members: Sequence[MemberId], said: NDArray[np.float64]) -> None:
        """Add a query's rows.

        Args:
            asked: the query; a member that the newest roster does not have is forgotten.
            members: who answered.
            said: [kinds, members, rows].
        """
        self._follow(asked)
        rows = said.shape[2]
        stored = min(rows, self._keep)
        if self._end + stored > self._said.shape[2]:
            kept = min(self._end, self._keep)
            self._said[:, :, :kept] = self._said[:, :, self._end - kept : self._end]
            self._end = kept
        new = slice(self._end, self._end + stored)
        here = [at for at, member in enumerate(members) if member in self._places]
        places = [self._places[members[at]] for at in here]
        part = self._said[:, :, new]
        part[:] = np.nan
        part[Kind.LABEL, [self._places[m] for m in asked.participants if m in self._places]] = -1.0
        part[:, places] = said[:, here, rows - stored :]
        self._end += stored
        self.rows += rows

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
