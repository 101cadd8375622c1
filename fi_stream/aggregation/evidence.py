"""Rules that need more than predictions: sizes, participants' own weights, what the past taught.

What they need comes as one frozen value, so that a bench, a replay and a running aggregator call
the same functions. `docs/rules.md` says who computes each part, and how it travels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fi_stream.aggregation.caps import weight_cap
from fi_stream.aggregation.competence import DENSITY_CAP, ENERGY_CAP
from fi_stream.aggregation.consensus import consensus_weights
from fi_stream.aggregation.rules import RULES, entropy_weights
from fi_stream.aggregation.stacks import Scores, Stack, Weights, weighted
from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that a rule may know of the answers to some rows; what nobody gave counts as 1.

    `predictions` is [participants, rows, classes]; the others [participants, rows], or a shape that
    broadcasts to it such as [participants, 1], at least 0 and finite:

    - `sizes`: n, training examples as the roster has them, capped (`caps.capped_sizes`);
    - `own`: w, the weight that the participant computed itself and put into its answer;
    - `standing`: what the aggregator learnt of the participant from past queries.
    """

    predictions: Stack
    sizes: Weights | None = None
    own: Weights | None = None
    standing: Weights | None = None

    def of(self, participants: NDArray[np.bool_]) -> Evidence:
        """The answers of some participants: [participants], at least one of them True."""
        parts = (self.sizes, self.own, self.standing)
        rest = (None if part is None else part[participants] for part in parts)
        return Evidence(self.predictions[participants], *rest)

    def product(self, *factors: Weights | None) -> Weights:
        """Those factors that are given multiplied: [participants, rows]."""
        weights = np.ones(self.predictions.shape[:2])
        for factor in factors:
            if factor is not None:
                weights = weights * factor
        return weights


Weighing: TypeAlias = Callable[[Evidence], Weights]


def uniform(evidence: Evidence) -> Weights:
    """W = 1: `soft`."""
    return evidence.product()


def entropy(evidence: Evidence) -> Weights:
    """W = exp(-H(p)): `entropy`."""
    return entropy_weights(evidence.predictions)


def consensus(evidence: Evidence) -> Weights:
    """W = exp(-5 d(p, mean)), shares of 1: `consensus`."""
    return consensus_weights(evidence.predictions)


def spectral(evidence: Evidence) -> Weights:
    """W = standing, from `spectral.spectral_weights` over a window of past queries.

    Source: FedSEI (arXiv 2603.02214), spectral rule; Parisi et al., Ranking and combining multiple
    predictors without labeled data (PNAS 2014).
    """
    return evidence.product(evidence.standing)


def hybrid(evidence: Evidence) -> Weights:
    """W = the spectral weight times the consensus weight.

    Source: FedSEI (arXiv 2603.02214), hybrid rule.
    """
    return evidence.product(evidence.standing, consensus_weights(evidence.predictions))


def competence_entropy(evidence: Evidence) -> Weights:
    """W = n exp(-H(p)): who learnt from more, and is sure, counts for more."""
    return evidence.product(evidence.sizes, entropy_weights(evidence.predictions))


def competence_own(evidence: Evidence) -> Weights:
    """W = n w_own, times the standing.

    For `competence_energy` w_own is exp(0.5 z) and for `competence_density` r, both made by the
    participant (`competence`); the standing of the latter is 1 over the mean of its past r.
    """
    return evidence.product(evidence.sizes, evidence.own, evidence.standing)


def augmented(evidence: Evidence) -> Weights:
    """W = w_own: how little the prediction changed when the query did (`augmented`)."""
    return evidence.product(evidence.own)


WEIGHTED: MappingProxyType[str, Weighing] = MappingProxyType(
    {
        "soft": uniform,
        "entropy": entropy,
        "spectral": spectral,
        "consensus": consensus,
        "hybrid": hybrid,
        "competence_entropy": competence_entropy,
        "competence_energy": competence_own,
        "competence_density": competence_own,
        "tta_mean": uniform,
        "tta_l2": augmented,
        "tta_cosine": augmented,
        "tta_kl": augmented,
        "tta_js": augmented,
    }
)
"""The rules that are sums of weighted predictions, and their weights."""

ENERGY = "competence_energy"
DENSITY = "competence_density"
"""The two rules whose weight is of a participant's own data."""

SIZED = frozenset({"competence_entropy", "competence_energy", "competence_density"})
"""The rules that weigh by size."""

AUGMENTED = frozenset({"tta_mean", "tta_l2", "tta_cosine", "tta_kl", "tta_js"})
"""The rules by which a participant asks its model several forms of each query."""

OWN_CAPS = MappingProxyType(
    {
        "competence_energy": ENERGY_CAP,
        "competence_density": DENSITY_CAP,
        **dict.fromkeys(sorted(AUGMENTED - {"tta_mean"}), 1.0),
    }
)
"""The most that such a weight can be, by the rule that reads it."""

OWN = frozenset(OWN_CAPS)
"""The rules that read a weight which the participant computed, and which its answer carries."""

STANDING = frozenset({"spectral", "hybrid", "competence_density"})
"""The rules that read what was learnt of a participant from past queries."""

EQUAL = frozenset({"hard", "soft", "tta_mean"})
"""The rules by which all count the same, so that a cap on weights changes nothing."""

NAMES = tuple(dict.fromkeys((*RULES, *WEIGHTED)))
"""Every rule there is."""


def scores(rule: str, evidence: Evidence, share: float = 1.0) -> Scores:
    """What a rule makes of the answers: [rows, classes], not normalised.

    Args:
        rule: one of `NAMES`.
        evidence: the answers.
        share: the most of all weight that one participant may have, where the rule has weights.

    Raises:
        ConfigError: there is no such rule.
    """
    if rule in RULES and (share >= 1 or rule not in WEIGHTED):
        return RULES[rule](evidence.predictions)
    found = weights(rule, evidence)
    return weighted(evidence.predictions, found if share >= 1 else weight_cap(found, share))


def weights(rule: str, evidence: Evidence) -> Weights:
    """The weight that a rule of `WEIGHTED` gives to each prediction: [participants, rows].

    Raises:
        ConfigError: there is no such rule, or it has no weights.
    """
    found = WEIGHTED.get(rule)
    if found is None:
        nearest = get_close_matches(rule, WEIGHTED, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(
            f"no rule {rule!r} that weighs predictions: {hint}Those are {', '.join(WEIGHTED)}."
        )
    return found(evidence)
