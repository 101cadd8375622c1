"""A participant's own estimate of how dense its training data is where a query is.

A logistic regression learns to tell its own training examples from a client's past queries, by what
its model makes of them: the last hidden layers and the logits. Its logit is the log density
ratio. Nothing but the weight that follows from it leaves the participant.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)

FROM_QUERIES = 100
"""How many queries a client must have asked before a ratio is learnt for it."""

MOST_EXAMPLES = 2_000
"""How many training examples, and how many past queries of a client, are kept at most."""

STRENGTH = 0.03
"""How strongly coefficients are held down, beside a mean loss of both classes."""

_ITERATIONS = 25
_STEP = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """A fitted ratio: `centre`, `scale` and `coefficients` are [features]."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: float

    def log_ratio(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log p(own training data) / p(queries) at each row: [rows, features] to [rows]."""
        standard = (features - self.centre) / self.scale
        return np.asarray(standard @ self.coefficients + self.intercept)


def fit(
    training: NDArray[np.float64], queries: NDArray[np.float64], strength: float = STRENGTH
) -> Density:
    """Tell training examples from queries by ridge logistic regression, both weighing the same.

    Args:
        training: [rows, features] of the participant's own training examples, at least one.
        queries: [rows, features] of one client's past queries, at least one.
        strength: of the penalty on the squares of the coefficients of standardised features.

    Source: Bickel, Brueckner, Scheffer, Discriminative learning under covariate shift (JMLR 2009);
    Sugiyama, Suzuki, Kanamori, Density ratio estimation in machine learning (2012), chapter 4.
    """
    both = np.concatenate([training, queries])
    target = np.concatenate([np.ones(len(training)), np.zeros(len(queries))])
    # Both classes weigh 1/2, so that the logit is the ratio of densities, not of numbers.
    weight = np.where(target == 1, 0.5 / len(training), 0.5 / len(queries))
    centre = weight @ both
    spread = np.sqrt(weight @ (both - centre) ** 2)
    scale = np.where(spread > 0, spread, 1.0)
    inputs = np.column_stack([(both - centre) / scale, np.ones(len(both))])
    penalty = np.full(inputs.shape[1], strength)
    penalty[-1] = 0.0
    found = np.zeros(inputs.shape[1])
    for _ in range(_ITERATIONS):
        likely = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (weight * (likely - target)) + penalty * found
        curve = (inputs.T * (weight * likely * (1 - likely))) @ inputs + np.diag(penalty)
        # a little more on the diagonal: the intercept has no penalty of its own
        step = np.linalg.solve(curve + 1e-10 * np.eye(len(found)), slope)
        found -= step
        if np.abs(step).max() < _STEP:
            break
    return Density(centre, scale, found[:-1], float(found[-1]))


class Past:
    """The features of one client's last queries, in bounded memory."""

    def __init__(self, most: int = MOST_EXAMPLES) -> None:
        self._rows: deque[NDArray[np.float64]] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._rows)

    def asked(self, features: NDArray[np.float64]) -> None:
        """Take in the rows of a query: [rows, features]."""
        self._rows.extend(features.copy())

    def fit(self, training: NDArray[np.float64], strength: float = STRENGTH) -> Density | None:
        """The ratio to these queries; None until there are enough of them."""
        if len(self._rows) < FROM_QUERIES:
            return None
        return fit(training, self.kept(), strength)

    def kept(self) -> NDArray[np.float64]:
        """What is kept of at least one query, as it is now: [rows, features]."""
        return np.stack(self._rows)


def sample(training: NDArray[_T], most: int = MOST_EXAMPLES) -> NDArray[_T]:
    """The training examples that are kept: all, or so many drawn once and for all."""
    if len(training) <= most:
        return training
    return np.asarray(
        training[np.sort(np.random.default_rng(0).choice(len(training), most, replace=False))]
    )
