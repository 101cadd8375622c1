"""Exact confidence bounds of a share that was counted (Clopper and Pearson 1934)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_STEPS = 60
"""Halvings of an interval of length 1: to the last bit of a float."""


def lower_bound(hits: int, trials: int, alpha: float) -> float:
    """The share that is at least so large, but for a chance of `alpha`.

    The least share of which `hits` or more would come up with probability alpha, rounded down.
    """
    if hits == 0:
        return 0.0
    return _last_true(lambda share: _at_least(hits, trials, share) <= alpha)


def upper_bound(hits: int, trials: int, alpha: float) -> float:
    """The share that is at most so large, but for a chance of `alpha`; as `lower_bound`."""
    return 1.0 - lower_bound(trials - hits, trials, alpha)


def _last_true(holds: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _at_least(hits: int, trials: int, share: float) -> float:
    """The probability of `hits` or more: the sum of the exact terms."""
    if share <= 0:
        return 0.0
    factorials = _log_factorials(trials)
    counts = np.arange(hits, trials + 1)
    terms = (
        factorials[trials]
        - factorials[counts]
        - factorials[trials - counts]
        + counts * np.log(share)
        + (trials - counts) * np.log1p(-share)
    )
    return float(np.exp(terms).sum())


@lru_cache(maxsize=8)
def _log_factorials(most: int) -> NDArray[np.float64]:
    """The logarithms of 0! to most!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
