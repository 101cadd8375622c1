"""The exact trade of epsilon for delta of Gaussian noise, by the size of the shift that it hides.

A shift of L2 length D in noise of standard deviation s is one of mu = D / s in unit noise. Releases
compose exactly, also adaptive ones: the squares of their mu add up, that is, their rho = mu^2 / 2
(Dong, Roth and Su 2022). So a sum of rho of Gaussian releases says all, and zCDP's general bound,
which holds for any mechanism, is up to 10 % looser.

For discrete noise on a grid the privacy loss is the same linear function of the noise, and its
tail a sum where the continuous one is an integral: at s >= 1,000 steps their ratio is 1 within 1e-5
(tests compare). `_MARGIN` of delta is kept for that.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

FEWEST_STEPS: Final = 1_000.0
"""The least standard deviation, in steps, for which all this holds."""

_MARGIN: Final = 1e-5
_FAR: Final = 12.0
"""From here on the Mills ratio is a continued fraction; before, erfc is exact enough."""


def delta_of(epsilon: float, mu: float) -> float:
    """The least delta with which noise hides a shift of `mu` at `epsilon`.

    Args:
        epsilon: 0 or more.
        mu: above 0.

    Source: Balle and Wang 2018, theorem 8. Its exp(epsilon) is within the normal density here, so
    that no large epsilon overflows.
    """
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    density = math.exp(-near * near / 2) / math.sqrt(2 * math.pi)
    if near < 0:
        return math.erfc(near / math.sqrt(2)) / 2 - density * _mills(far)
    return density * (_mills(near) - _mills(far))


@lru_cache(maxsize=4096)
def epsilon_of_rho(rho: float, delta: float) -> float:
    """The least epsilon at which Gaussian releases of that total rho are (epsilon, delta)-private.

    Rounded up; 0 where delta alone covers it.
    """
    mu, allowed = math.sqrt(2 * rho), delta * (1 - _MARGIN)
    if delta_of(0.0, mu) <= allowed:
        return 0.0
    # zCDP's bound (Bun and Steinke 2016) is never tighter, so that it bounds the search.
    low, high = 0.0, rho + 2 * math.sqrt(rho * math.log(1 / allowed))
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle, mu) <= allowed else (middle, high)
    return high


def rho_of_epsilon(epsilon: float, delta: float) -> float:
    """The largest rho that is (epsilon, delta)-private, rounded down."""
    low, high = 0.0, 2 * epsilon + 1
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        fits = delta_of(epsilon, math.sqrt(2 * middle)) <= delta * (1 - _MARGIN)
        low, high = (middle, high) if fits else (low, middle)
    return low


def _mills(x: float) -> float:
    """The tail of the standard normal distribution beyond x >= 0, over its density there."""
    if x < _FAR:
        return math.sqrt(math.pi / 2) * math.erfc(x / math.sqrt(2)) * math.exp(x * x / 2)
    fraction = x
    for step in range(40, 0, -1):
        fraction = x + step / fraction
    return 1 / fraction
