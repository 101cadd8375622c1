"""Bounds on how much one participant can say: on its size, its weight, and its confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.aggregation.stacks import Stack, Weights

TIMES_MEDIAN = 2.0
"""How many times the federation's median size is believed."""


def capped_sizes(sizes: NDArray[np.float64], times: float = TIMES_MEDIAN) -> NDArray[np.float64]:
    """Training-set sizes as rules use them: [participants], none above so many times the median."""
    return np.minimum(sizes, times * np.median(sizes))


def weight_cap(weights: Weights, share: float) -> Weights:
    """Lower the largest weights of each row until nobody has more than a share of their sum.

    Args:
        weights: [participants, rows], at least 0.
        share: in (0, 1]. Where too few have a weight for that, those few become equal.

    Returns:
        [participants, rows]: the smaller of each weight and one bound of its row.
    """
    ascending = np.sort(weights, axis=0)
    sums = np.add.accumulate(ascending, axis=0)
    bound = ascending[-1]
    found = bound <= share * sums[-1]
    for capped in range(1, weights.shape[0]):
        if capped * share >= 1:
            break
        # With so many at the bound t, and the rest below it: t = share (rest + capped t).
        t = share * sums[-1 - capped] / (1 - capped * share)
        fits = ~found & (t > 0) & (t >= ascending[-1 - capped])
        bound = np.where(fits, t, bound)
        found |= fits
    smallest = np.where(ascending > 0, ascending, np.inf).min(axis=0)
    return np.asarray(np.minimum(weights, np.where(found, bound, smallest)))


def confidence_cap(predictions: Stack, most: float) -> Stack:
    """Mix sure predictions with a guess until no probability is above `most`.

    Args:
        predictions: [participants, rows, classes], on the simplex.
        most: above 1 / classes, at most 1.

    Returns:
        The same shape, on the simplex, classes in the same order of probability.
    """
    guess = 1.0 / predictions.shape[-1]
    largest = predictions.max(axis=-1, keepdims=True)
    above = largest > most
    kept = np.where(above, (most - guess) / np.where(above, largest - guess, 1.0), 1.0)
    return np.asarray(guess + kept * (predictions - guess))
