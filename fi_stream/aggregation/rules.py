"""The aggregation rules: what several participants' predictions say together (DESIGN 8.6).

Each rule is a symmetric function of its participants, to the bit: the contributions to a score
are added smallest first, elementwise, so neither the participants' order, nor the other rows in
the stack, nor the processor changes a result.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fi_stream.aggregation import portable
from fi_stream.errors import ConfigError

Stack: TypeAlias = NDArray[np.float64]
"""Predictions, [participants, rows, classes]; at least one participant."""

Scores: TypeAlias = NDArray[np.float64]
"""What the classes of each row got, [rows, classes], not normalised."""

Rule: TypeAlias = Callable[[Stack], Scores]

_SMALLEST_VOTE = 2.0**-20


def hard(predictions: Stack) -> Scores:
    """Count each participant's best class; its own tie splits its vote.

    Args:
        predictions: [participants, rows, classes], finite.

    Returns:
        [rows, classes] votes. Thirds, sixths and the like are counted to a millionth of a vote, so
        that classes with equal votes are equal whatever fractions made them up.
    """
    best = predictions == predictions.max(axis=-1, keepdims=True)
    votes = best / best.sum(axis=-1, keepdims=True, dtype=np.float64)
    return np.rint(_total(votes) / _SMALLEST_VOTE) * _SMALLEST_VOTE


def soft(predictions: Stack) -> Scores:
    """Add up the predictions: each participant counts the same.

    Args:
        predictions: [participants, rows, classes], finite.

    Returns:
        [rows, classes] sums of probabilities.
    """
    return _total(predictions)


def entropy(predictions: Stack) -> Scores:
    """Weigh each prediction by exp(-entropy): a sure participant counts for more.

    Args:
        predictions: [participants, rows, classes], finite. Entropy is of natural logarithms, with
            0 log 0 = 0; entries that noise pushed out of [0, 1] count in it as 0 or 1.

    Returns:
        [rows, classes] weighted sums; weights are in [0, 1], 1 for a prediction without doubt.

    Source: FedSEI (arXiv 2603.02214), entropy rule.
    """
    return _total(predictions * entropy_weights(predictions)[..., np.newaxis])


def entropy_weights(predictions: Stack) -> NDArray[np.float64]:
    """The weight that `entropy` gives to each prediction: [participants, rows]."""
    clipped = np.clip(predictions, 0.0, 1.0)
    positive = clipped > 0
    terms = clipped * -portable.log(np.where(positive, clipped, 1.0))
    # Smallest first, so that naming the classes in another order gives the same bits; accumulate,
    # because it adds one by one however many rows there are.
    doubt = np.add.accumulate(np.sort(terms, axis=-1), axis=-1)[..., -1]
    return portable.exp(-doubt)


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"hard": hard, "soft": soft, "entropy": entropy}
)


def rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        ConfigError: there is no such rule.
    """
    found = RULES.get(name)
    if found is None:
        nearest = get_close_matches(name, RULES, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"no rule {name!r}: {hint}The rules are {', '.join(RULES)}.")
    return found


def _total(contributions: Stack) -> Scores:
    """Sum over participants, smallest first, each step elementwise."""
    total = np.zeros(contributions.shape[1:])
    for contribution in np.sort(contributions, axis=0):
        total += contribution
    return total
