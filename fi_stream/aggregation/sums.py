"""The rules that a secure sum can follow: each adds up [w p, w], one line for each participant.

What a participant adds is computed by itself, so nobody else needs to see its prediction.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fi_stream.aggregation.evidence import AUGMENTED, OWN_CAPS, SIZED
from fi_stream.aggregation.rules import entropy_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.aggregation.rules import Scores

CAP: Final = 1.0
"""The largest weight of one answer, and so the most that it adds to a number of the sum."""

_Weighted: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


def _soft(prediction: NDArray[np.float64]) -> _Weighted:
    return prediction, np.ones(len(prediction))


def _entropy(prediction: NDArray[np.float64]) -> _Weighted:
    return prediction, entropy_weights(prediction)


def _hard(prediction: NDArray[np.float64]) -> _Weighted:
    best = prediction == prediction.max(axis=-1, keepdims=True)
    return best / best.sum(axis=-1, keepdims=True, dtype=np.float64), np.ones(len(prediction))


SUM_RULES: MappingProxyType[str, Callable[[NDArray[np.float64]], _Weighted]] = MappingProxyType(
    {
        "soft": _soft,
        "hard": _hard,
        "entropy": _entropy,
        "competence_entropy": _entropy,
        "competence_energy": _soft,
        "competence_density": _soft,
        **dict.fromkeys(sorted(AUGMENTED), _soft),
    }
)
"""By the name of the rule: what a prediction [rows, classes] counts as, and its weights [rows].

Besides them a weight of the participant's own counts where the rule reads one (`OWN_CAPS`).
"""


def contribution(
    prediction: NDArray[np.float64],
    rule: str,
    share: float = 1.0,
    own: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What one participant adds to a sum.

    Args:
        prediction: [rows, classes], each row on the simplex.
        rule: one of `SUM_RULES`.
        share: the participant's size, as a part of the largest that is believed, for rules that
            weigh by it.
        own: [rows], for a rule that reads the participant's own weights: it counts as a part of the
            most that it can be.

    Returns:
        [rows, classes + 1]: the weighted prediction, then the weight, both from 0 to `CAP`.
    """
    counted, weights = SUM_RULES[rule](prediction)
    if rule in SIZED:
        weights = weights * share
    if own is not None:
        weights = weights * (own / OWN_CAPS[rule])
    weights = np.clip(weights, 0.0, CAP)[:, np.newaxis]
    return np.concatenate([counted * weights, weights], axis=1)


def scores_of(total: NDArray[np.int64], grid: int) -> Scores:
    """The scores of each row of an opened sum: [rows, classes], not normalised.

    Args:
        total: [rows, classes + 1], in steps.
        grid: steps in 1.0.
    """
    return total[:, :-1].astype(np.float64) / grid
