"""Rules that look at how far the predictions are from each other, and from their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation import portable
from fi_stream.aggregation.stacks import over_classes, shares, total, weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.aggregation.stacks import Scores, Stack, Weights

BETA = 5.0
"""How fast a weight falls with the distance from the mean."""

_SMALLEST = 2.0**-1022
"""Stands for what is 0 or below, which has no logarithm."""


def consensus(predictions: Stack, beta: float = BETA) -> Scores:
    """Weigh each prediction by exp(-beta d), d half the Jeffreys divergence to the mean.

    Args:
        predictions: [participants, rows, classes], finite.
        beta: 0 is `soft`.

    Returns:
        [rows, classes] weighted means.

    Source: FedSEI (arXiv 2603.02214), consensus rule.
    """
    return weighted(predictions, consensus_weights(predictions, beta))


def consensus_weights(predictions: Stack, beta: float = BETA) -> Weights:
    """The weights of `consensus`, adding up to 1 in each row: [participants, rows].

    d(p, m) = (KL(p, m) + KL(m, p)) / 2 = sum over classes of (p - m) (log p - log m) / 2, where m
    is the mean of the predictions.
    """
    distance = _distances(predictions)
    # Only differences count; the nearest gets 1, so that never all are 0.
    return shares(portable.exp(-beta * (distance - distance.min(axis=0))))


def _distances(predictions: Stack) -> NDArray[np.float64]:
    """Half the Jeffreys divergence of each prediction to their mean: [participants, rows]."""
    positive = np.clip(predictions, _SMALLEST, 1.0)
    mean = total(positive) / positive.shape[0]
    terms = (positive - mean) * (portable.log(positive) - portable.log(mean))
    return over_classes(terms) / 2


def logit_mean(predictions: Stack) -> Scores:
    """Average the logits: softmax of the mean of log p.

    Args:
        predictions: [participants, rows, classes], finite. Their logarithms are the logits but for
            a constant in each row, which softmax takes away.

    Returns:
        [rows, classes] probabilities. One participant that rules a class out rules it out.

    Source: FedSEI (arXiv 2603.02214), logit averaging; a logarithmic opinion pool (Genest, Zidek:
    Combining probability distributions, 1986).
    """
    return softmax_of_mean(portable.log(np.clip(predictions, _SMALLEST, 1.0)))


def softmax_of_mean(logits: Stack) -> Scores:
    """The same from logits: [participants, rows, classes] to [rows, classes]."""
    mean = total(logits) / logits.shape[0]
    raised = portable.exp(mean - mean.max(axis=-1, keepdims=True))
    return raised / over_classes(raised)[..., np.newaxis]
