"""Predictions stacked as rules take them, summed so that no order changes a bit (DESIGN 8.6).

numpy may add in any order and grouping, by processor and by layout. Here terms are added smallest
first, one after another, elementwise: neither the participants' order, nor the classes', nor the
other rows of the stack change a result.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Stack: TypeAlias = NDArray[np.float64]
"""Predictions, [participants, rows, classes]; at least one participant."""

Scores: TypeAlias = NDArray[np.float64]
"""What the classes of each row got, [rows, classes], not normalised."""

Weights: TypeAlias = NDArray[np.float64]
"""How much each prediction counts, [participants, rows], at least 0."""


SIMPLEX_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a row may add up."""


def total(contributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the first axis, the participants."""
    return added(np.sort(contributions, axis=0))


def added(contributions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the first axis in the order that it has."""
    # accumulate, because it adds one by one whatever the shape
    return np.asarray(np.add.accumulate(contributions, axis=0)[-1])


def over_classes(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis, the classes."""
    # accumulate, because it adds one by one however many rows there are
    return np.asarray(np.add.accumulate(np.sort(terms, axis=-1), axis=-1)[..., -1])


def weighted(predictions: Stack, weights: Weights) -> Scores:
    """Sum of each prediction times its weight.

    Args:
        predictions: [participants, rows, classes].
        weights: [participants, rows].

    Returns:
        [rows, classes].
    """
    return total(predictions * weights[..., np.newaxis])


def shares(weights: Weights) -> Weights:
    """Weights as parts of 1 in each row; equal parts where all are 0."""
    summed = total(weights)
    empty = summed <= 0
    return np.where(empty, 1.0 / weights.shape[0], weights / np.where(empty, 1.0, summed))
