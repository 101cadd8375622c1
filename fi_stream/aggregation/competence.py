"""The weights by which a participant says how much a query is like what its model learnt.

A participant computes them on its own data, and they travel as bytes inside its answer: numpy's own
logarithm and exponential will do. Each weight w is at least 0 and bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP = 4.0
"""Standard deviations of energy, and natural logarithms of a density ratio, that are believed."""

ENERGY_CAP = float(np.exp(0.5 * CLIP))
DENSITY_CAP = float(np.exp(CLIP))
"""The most that such a weight can be."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What a number is on a participant's own held-out data: its mean and standard deviation."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, held_out: NDArray[np.float64]) -> Standard:
        """Of a sample, [any], not empty."""
        return cls(float(held_out.mean()), float(held_out.std()))

    def of_one(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """In standard deviations from the mean; 0 where the sample did not vary."""
        if self.deviation <= 0:
            return np.zeros_like(values)
        return (values - self.mean) / self.deviation


def energy(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The negative free energy of each row, logsumexp of its logits: [..., classes] to [...].

    High for what is like the training data.

    Source: Liu et al., Energy-based out-of-distribution detection (arXiv 2010.03759), T = 1.
    """
    largest = logits.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0])


def energy_weights(energies: NDArray[np.float64], held_out: Standard) -> NDArray[np.float64]:
    """W = exp(0.5 z), z the energy standardised on held-out data and clipped to 4: [rows]."""
    return np.asarray(np.exp(0.5 * np.clip(held_out.of_one(energies), -CLIP, CLIP)))


def density_weights(log_density_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """R = exp(log p(own training features) / p(queries), clipped to 4), of any shape.

    With r for the density of a participant's data, n r p is in proportion to what it saw of each
    class near the query: the optimal combination under covariate shift.

    Source: Mansour, Mohri, Rostamizadeh, Domain adaptation with multiple sources (NIPS 2008).
    """
    return np.asarray(np.exp(np.clip(log_density_ratio, -CLIP, CLIP)))


def density_standing(past: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 over the mean of each participant's past r: [participants, past rows] to [participants].

    The mean of an honest r over the queries is about 1, so this costs nothing; whoever always
    claims the most gains nothing. NaN where a participant did not answer; 1 for who never did.
    """
    answered = np.isfinite(past)
    count = answered.sum(axis=1)
    # accumulate: in the order of the past, the same on every machine
    summed = np.add.accumulate(np.where(answered, past, 0.0), axis=1)[:, -1:].sum(axis=1)
    known = (count > 0) & (summed > 0)
    return np.where(known, count / np.where(known, summed, 1.0), 1.0)
