"""Noise that is used again: what a release never does, and what a measurement on paper may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.privacy.draws import Kind, draw

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Replaying:
    """Draws of each kind, made once by the product's own OpenDP and read again by every trace.

    Traces of the bench meet the same noise: their accuracies are right one by one, and compare
    better. Nothing of it is released.
    """

    def __init__(self) -> None:
        self._drawn: dict[Kind, NDArray[np.int64]] = {}
        self._at: dict[Kind, int] = {}

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """The next draws of this kind since `rewind`: int64 [count]."""
        start = self._at.get(kind, 0)
        held = self._drawn.get(kind, np.empty(0, dtype=np.int64))
        missing = start + count - len(held)
        if missing > 0:
            held = self._drawn[kind] = np.concatenate([held, draw(kind, missing)])
        self._at[kind] = start + count
        return held[start : start + count]

    def rewind(self) -> None:
        """Begin every kind again, for the next trace."""
        self._at.clear()


class Silent:
    """Noise that is none, to see what a mechanism costs without it."""

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """Zeros: int64 [count]."""
        del kind
        return np.zeros(count, dtype=np.int64)
