"""Noise drawn ahead of need: used once, in memory only, never by two processes (DESIGN 10)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.privacy.draws import Gaussians, Kind, Offsets, draw
from fi_stream.privacy.forks import forget_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MOST_KINDS: Final = 256
"""Kinds that are kept; beyond that the one that was not asked for longest is dropped."""

# A few milliseconds of drawing, so that no answer waits long for the next ones' noise.
_BLOCKS: Final = {Offsets: 256, Gaussians: 512}


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


class Pools:
    """A source that draws in this process, a block when one is needed; safe between threads."""

    _lock: threading.Lock
    _pools: OrderedDict[Kind, Pool]

    def __init__(self) -> None:
        self.forget()
        forget_in_children(self)

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """That many draws of a kind: int64 [count]."""
        block = _BLOCKS.get(type(kind))
        if block is None:  # votes of which the same may not come again
            return draw(kind, count)
        with self._lock:
            pool = self._pools.get(kind)
            if pool is None:
                pool = self._pools[kind] = Pool(lambda wanted: draw(kind, wanted), block)
            self._pools.move_to_end(kind)
            while len(self._pools) > MOST_KINDS:
                self._pools.popitem(last=False)
        return pool.take(count)

    def forget(self) -> None:
        """Drop all that was drawn: a forked child must not use its parent's noise."""
        self._lock = threading.Lock()
        self._pools = OrderedDict()
