"""Logarithm and exponential that give the same bits on every machine (DESIGN 8.6).

numpy's own differ in the last bit between processors, and on one processor between memory layouts,
so a replay elsewhere could flip a near-tie. These are made of operations that IEEE 754 rounds
exactly (add, multiply, divide, frexp, ldexp), one element at a time.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# ln 2 in two parts: the first ends in 21 zero bits, so its products with an exponent are exact.
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_HALF_ROOT = 0.5**0.5

# log((1 + s) / (1 - s)) = 2s (1 + s^2/3 + s^4/5 + ...), with |s| <= 0.172
_ATANH = tuple(1 / (2 * n + 1) for n in range(12))
# exp(r) = 1 + r + r^2/2! + ..., with |r| <= 0.347
_TAYLOR = tuple(1 / factorial(n) for n in range(15))


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive, finite numbers of any shape.

    Within 2 units in the last place.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < _HALF_ROOT
    mantissa = np.where(small, mantissa * 2, mantissa)
    power = exponent - small.astype(np.float64)
    s = (mantissa - 1) / (mantissa + 1)
    fraction = 2 * s * _polynomial(_ATANH, s * s)
    result: NDArray[np.float64] = power * _LN2_HIGH + (power * _LN2_LOW + fraction)
    return result


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential of numbers up to 700, of any shape; 0 below about -745.

    Within 2 units in the last place.
    """
    x = np.maximum(x, -1000.0)
    power = np.rint(x / (_LN2_HIGH + _LN2_LOW))
    rest = (x - power * _LN2_HIGH) - power * _LN2_LOW
    result: NDArray[np.float64] = np.ldexp(_polynomial(_TAYLOR, rest), power.astype(np.int32))
    return result


def _polynomial(coefficients: Sequence[float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total
