"""The aggregation rules: what several participants' predictions say together (DESIGN 8.6).

Each rule is a symmetric function of its participants, to the bit: `stacks` says how it is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from fi_stream.aggregation import portable
from fi_stream.aggregation.consensus import consensus, logit_mean
from fi_stream.aggregation.own import own_rule
from fi_stream.aggregation.robust import geometric_median, median, trimmed_mean
from fi_stream.aggregation.stacks import Scores, Stack, Weights, over_classes, total, weighted
from fi_stream.errors import ConfigError
from fi_stream.federation.references import is_own

__all__ = ["RULES", "Rule", "Scores", "Stack", "entropy", "entropy_weights", "hard", "rule", "soft"]

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
    return np.rint(total(votes) / _SMALLEST_VOTE) * _SMALLEST_VOTE


def soft(predictions: Stack) -> Scores:
    """Add up the predictions: each participant counts the same.

    Args:
        predictions: [participants, rows, classes], finite.

    Returns:
        [rows, classes] sums of probabilities.
    """
    return total(predictions)


def entropy(predictions: Stack) -> Scores:
    """Weigh each prediction by exp(-entropy): a sure participant counts for more.

    Args:
        predictions: [participants, rows, classes], finite. Entropy is of natural logarithms, with
            0 log 0 = 0; entries that noise pushed out of [0, 1] count in it as 0 or 1.

    Returns:
        [rows, classes] weighted sums; weights are in [0, 1], 1 for a prediction without doubt.

    Source: FedSEI (arXiv 2603.02214), entropy rule.
    """
    return weighted(predictions, entropy_weights(predictions))


def entropy_weights(predictions: Stack) -> Weights:
    """The weight that `entropy` gives to each prediction: [participants, rows]."""
    clipped = np.clip(predictions, 0.0, 1.0)
    positive = clipped > 0
    terms = clipped * -portable.log(np.where(positive, clipped, 1.0))
    return portable.exp(-over_classes(terms))


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        "hard": hard,
        "soft": soft,
        "entropy": entropy,
        "consensus": consensus,
        "logit_mean": logit_mean,
        "median": median,
        "trimmed_mean": trimmed_mean,
        "geometric_median": geometric_median,
    }
)
"""The rules that need nothing but predictions; `evidence.WEIGHTED` holds the others."""


def rule(name: str) -> Rule:
    """The rule of that name, or a federation's own: "module:function".

    Raises:
        ConfigError: there is no such rule, or it may not be used.
    """
    if is_own(name):
        return own_rule(name)
    found = RULES.get(name)
    if found is None:
        nearest = get_close_matches(name, RULES, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"no rule {name!r}: {hint}The rules are {', '.join(RULES)}.")
    return found
