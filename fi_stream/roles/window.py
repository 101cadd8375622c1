"""How many queries a client keeps open while the federation has no room for more.

Pure: what was asked and what became of it go in. Additive increase, multiplicative decrease, as
TCP does it (RFC 5681): no client knows how much the others ask, and all find a share.
"""

from __future__ import annotations

from typing import Final

SMALLEST: Final = 8
"""Queries that a client may always have open: whoever asks nothing learns nothing."""

_LESS: Final = 0.5
"""What is left of the window when there was no room."""

_USED: Final = 0.5
"""The part of the window that must be in use before it grows."""


class Window:
    """A bound on open queries: wide at first, smaller when answers fail to come for lack of room.

    All that was asked before the last decrease tells of the wider window, so one overload makes it
    smaller once.

    Args:
        widest: the most that it ever is.
    """

    def __init__(self, widest: int) -> None:
        self._widest = widest
        self._size = float(widest)
        self._asked = 0
        self._known_until = 0

    @property
    def size(self) -> int:
        """Queries that may be open at once."""
        return int(self._size)

    def asked(self) -> int:
        """One more query is asked; its number, for `answered` or `overloaded`."""
        self._asked += 1
        return self._asked

    def answered(self, number: int, still_open: int) -> None:
        """A query had its outcome, with so many others still open."""
        if number > self._known_until and still_open >= self._size * _USED:
            self._size = min(self._widest, self._size + 1 / self._size * SMALLEST)

    def overloaded(self, number: int, still_open: int) -> None:
        """A query was rejected, or nothing was decided, because there was no room."""
        if number > self._known_until:
            self._known_until = self._asked
            self._size = max(SMALLEST, min(self._size, still_open) * _LESS)
