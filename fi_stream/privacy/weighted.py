"""Noise on a contribution to a secure sum: [w p, w] as integers, clipped before it (DESIGN 9, 10).

Each of the participants adds a part of the noise; the parts of the honest ones make up the whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.draws import Gaussians
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.pool import Pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.privacy.draws import NoiseSource


def l2_sensitivity(cap: int) -> float:
    """How far two contributions [w p, w] are apart at most, rounded to steps, weights included.

    Halves round up. A weight that rounds to v > 0 is below v + 1/2, and an entry y > 0 of w p was
    at least y - 1/2, so that the largest entry is at most v, and at most one more is 1: the squares
    of w p add up to at most v^2 + 1. Two contributions of weights v and u without a negative
    entry are then at most v^2 + u^2 + (v - u)^2 + 2 apart, squared. That is largest at a corner:
    2 cap^2 + 2.

    Args:
        cap: the largest weight, in steps.

    Returns:
        In steps, rounded up.
    """
    return math.nextafter(math.sqrt(2 * cap**2 + 2), math.inf)


def whole_steps(contributions: NDArray[np.float64], cap: int) -> NDArray[np.int64]:
    """Contributions as integers on the grid, halves up, each entry within 0 .. cap.

    Args:
        contributions: [rows, classes + 1], [w p, w] of probabilities p and a weight w.
        cap: the largest weight, in steps.
    """
    steps = np.floor(contributions * GRID + 0.5).astype(np.int64)
    return np.clip(steps, 0, cap)


class WeightedGaussian:
    """Discrete Gaussian noise on each entry of a contribution, so that the sum carries enough.

    (epsilon, delta)-differential privacy of the sum for each row, accounted in zCDP, as long as
    `honest` of those in the sum add their part. Each adds sigma / sqrt(honest). A sum of discrete
    Gaussians is not quite one, but parts of thousands of steps differ from it by less than any
    float can tell (Kairouz, Liu and Steinke 2021).

    Args:
        epsilon: of one row of the sum, at `delta`.
        delta: of one row.
        honest: how many parts make up the whole: `k_min` less the colluders that are tolerated.
        cap: the largest weight.
        source: of the noise.

    Raises:
        ConfigError: epsilon or delta is out of range, or OpenDP is not installed.
    """

    def __init__(
        self,
        epsilon: float,
        delta: float,
        honest: int = 1,
        cap: float = 1.0,
        source: NoiseSource | None = None,
    ) -> None:
        calibration.check_epsilon(epsilon)
        calibration.check_delta(delta)
        self.cap = math.floor(cap * GRID + 0.5)
        self.delta = delta
        sensitivity = l2_sensitivity(self.cap)
        whole = calibration.gaussian_scale(epsilon, delta, sensitivity)
        rho = float(calibration.gaussian(whole).map(sensitivity))
        self.cost = Charge.at_least(Unit.NANO_RHO, math.nextafter(rho, math.inf))
        self.sigma = whole / GRID
        self._kind = Gaussians(math.nextafter(whole / math.sqrt(honest), math.inf))
        self._source = source or Pools()
        self._source.take(self._kind, 0)  # so that it is drawn ahead

    @property
    def part(self) -> float:
        """The standard deviation of what one participant adds to each entry."""
        return self._kind.scale / GRID

    def release(self, contributions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Noised contributions. Charge first.

        Args:
            contributions: [rows, classes + 1], [w p, w]; each p on the simplex.

        Returns:
            int64 of the same shape, in steps of the grid; noise may take them below 0.
        """
        steps = whole_steps(contributions, self.cap)
        return steps + self._source.take(self._kind, steps.size).reshape(steps.shape)
