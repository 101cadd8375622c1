"""Noise drawn ahead of need: used once, in memory only, never by two processes (DESIGN 10)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.privacy.forks import forget_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Pool:
    """Integers of noise, each given out once; safe to share between threads.

    Args:
        draw: makes that many fresh, independent integers.
        block: how many are drawn at once when the pool runs dry; one call into OpenDP costs about
            30 us however few it draws.
    """

    _lock: threading.Lock
    _left: NDArray[np.int64]

    def __init__(self, draw: Callable[[int], NDArray[np.int64]], block: int) -> None:
        self._draw = draw
        self._block = block
        self.forget()
        forget_in_children(self)

    def take(self, count: int) -> NDArray[np.int64]:
        """That many integers, which nobody gets again: int64 [count]."""
        with self._lock:
            missing = count - len(self._left)
            if missing > 0:
                fresh = self._draw(max(missing, self._block))
                self._left = np.concatenate([self._left, fresh])
            taken, self._left = self._left[:count], self._left[count:]
            return taken

    def forget(self) -> None:
        """Drop all that was drawn: a forked child must not use its parent's noise."""
        self._lock = threading.Lock()
        self._left = np.empty(0, dtype=np.int64)
