"""How many contributors could have changed a label, had they answered anything: its certificate.

A rule that adds up what contributors say, each at most a cap, can be moved by no more than the caps
of those that lie. So the number that a label withstands is found exactly, by sorting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.aggregation.evidence import (
    EQUAL,
    OWN_CAPS,
    SIZED,
    STANDING,
    WEIGHTED,
    Evidence,
    weights,
)
from fi_stream.aggregation.stacks import shares, total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.aggregation.stacks import Scores, Stack, Weights

VOTES = "hard"

_CAPS: Final = {
    "soft": 1.0,
    "entropy": 1.0,
    "spectral": 1.0,
    "competence_entropy": 1.0,
    "tta_mean": 1.0,
    **OWN_CAPS,
}
"""The most that a participant can make of the weight that it sets itself."""

_ROUNDING: Final = 2.0**-18
"""More than all rounding, in parts of the largest cap; `early` says why for votes."""


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What stands behind the labels of some rows.

    `withstands` is [rows]: the largest f such that no f contributors, answering anything, could
    have changed the label or brought it to a tie. `margin` is [rows]: by how much the best class
    leads the next, as a part of all that contributors could have given. `weights` is [participants,
    rows]: the part of 1 that each contributor's answer had.
    """

    withstands: NDArray[np.int64]
    margin: NDArray[np.float64]
    weights: Weights


def certify(
    rule: str, evidence: Evidence, slack: float = 0.0, share: float = 1.0
) -> Certificate | None:
    """The certificate of a rule's labels.

    Args:
        rule: one of `evidence.NAMES`.
        evidence: the contributors' answers, at least one; sizes and standing are not theirs to
            choose, predictions and own weights are.
        slack: by how much the probabilities of an answer may add up to more than 1.
        share: the most of all weight that one contributor may have.

    Returns:
        None for a rule that is no sum of capped parts: nothing bounds what one can do to it, or
        nobody has shown what does. Where weights differ and a share bounds them, one contributor
        moves the weights of the others, too: there is none either.
    """
    if share < 1 and rule not in EQUAL:
        return None
    found = _parts(rule, evidence)
    if found is None:
        return None
    parts, caps = found
    if rule != VOTES:
        caps = caps * (1 + slack)
    scores = total(parts)
    most = total(caps)
    lead = _leads(scores) / np.where(most > 0, most, 1.0)
    given = np.ones_like(caps) if rule == VOTES else weights(rule, evidence)
    return Certificate(withstands(parts, caps), lead, shares(given))


def withstands(parts: Stack, caps: Weights) -> NDArray[np.int64]:
    """The largest number of contributors that no choice of theirs lets change the best class.

    Args:
        parts: [participants, rows, classes] what each adds to each class, at least 0.
        caps: [participants, rows] the most that each can add to one class.

    Returns:
        [rows]; 0 where one can, or where classes tie as it is.

    To bring class c past the best class b, contributor k can gain parts[k, b] - parts[k, c] +
    caps[k]; no f can while the f largest of these are together less than the lead of b over c.
    """
    scores = total(parts)
    best = scores.argmax(axis=1)[:, np.newaxis]
    own = np.take_along_axis(parts, best[np.newaxis], axis=2)
    gains = np.sort(own - parts + caps[..., np.newaxis], axis=0)[::-1]
    reach = np.add.accumulate(gains, axis=0) + _ROUNDING * caps.max(axis=0)[:, np.newaxis]
    lead = np.take_along_axis(scores, best, axis=1) - scores
    safe = reach < lead
    safe[:, np.arange(best.size), best[:, 0]] = True
    # gains are never negative, so once one class is in reach it stays so
    return np.asarray(np.logical_and.accumulate(safe.all(axis=2), axis=0).sum(axis=0))


def _parts(rule: str, evidence: Evidence) -> tuple[Stack, Weights] | None:
    """What each contributor added to each class, and the most that it could have."""
    predictions = evidence.predictions
    if rule == VOTES:
        best = predictions == predictions.max(axis=-1, keepdims=True)
        votes = best / best.sum(axis=-1, keepdims=True)
        return votes, np.ones(predictions.shape[:2])
    if rule not in _CAPS or rule not in WEIGHTED:
        return None
    sizes = evidence.sizes if rule in SIZED else None
    standing = evidence.standing if rule in STANDING else None
    caps = _CAPS[rule] * evidence.product(sizes, standing)
    return predictions * weights(rule, evidence)[..., np.newaxis], caps


def _leads(scores: Scores) -> NDArray[np.float64]:
    ordered = np.partition(scores, -2, axis=-1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])
