"""How well each participant is thought of by a window of past queries, without any label.

Models that are right are sure of the same queries. The top eigenvector of the covariance of their
confidences says how much each follows what they have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.stacks import over_classes, shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SQUARINGS = 60
_SAME = 1e-15


def confidences(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """How sure each prediction is: [..., classes] to [...], its largest probability."""
    return np.asarray(predictions.max(axis=-1))


def spectral_weights(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each participant from what it was sure of.

    Args:
        window: [participants, past rows] confidences; NaN where a participant did not answer.

    Returns:
        [participants] the absolute top eigenvector of the window's covariance, adding up to 1;
        equal parts of a window without variance. The same bits on every processor and in every
        order of participants, because the eigenvector comes from squaring the covariance
        until nothing else is left of it.

    Source: FedSEI (arXiv 2603.02214), spectral rule.
    """
    return shares(_absolute_top_eigenvector(_covariance(window))[:, np.newaxis])[:, 0]


def _covariance(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """[participants, participants], but for a factor; who did not answer stood at its mean."""
    answered = np.isfinite(window)
    given = np.where(answered, window, 0.0)
    count = np.maximum(answered.sum(axis=1), 1)
    mean = _sum(given) / count
    centred = np.where(answered, given - mean[:, np.newaxis], 0.0)
    return np.stack([_sum(centred * one) for one in centred])


def _sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis, the past, in its order."""
    if terms.shape[-1] == 0:
        return np.zeros(terms.shape[:-1])
    return np.asarray(np.add.accumulate(terms, axis=-1)[..., -1])


def _absolute_top_eigenvector(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """|v| of a positive semi-definite matrix: its powers go to v v^T, with |v_i|^2 as diagonal."""
    power = _scaled(matrix)
    for _ in range(_SQUARINGS):
        squared = _scaled(np.stack([over_classes(power * row[np.newaxis, :]) for row in power]))
        change = np.abs(squared - power).max()
        power = squared
        if change <= _SAME:
            break
    return np.sqrt(np.maximum(np.diagonal(power), 0.0))


def _scaled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.abs(matrix).max()
    return matrix / largest if largest > 0 else np.ones_like(matrix)
