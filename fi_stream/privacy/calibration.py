"""How much noise a declared epsilon needs, by OpenDP's own privacy maps (DESIGN 10).

The only module that imports OpenDP, and only when a mechanism is built or a total is shown.
"""

from __future__ import annotations

import importlib
import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from fi_stream.errors import ConfigError
from fi_stream.privacy.accountant import Charge, Unit

SMALLEST_EPSILON = 0.001
LARGEST_EPSILON = 32.0
SMALLEST_DELTA = 1e-15
LARGEST_DELTA = 0.01

# Beyond this rho OpenDP's search overflows; there the closed form is within 0.3 % of it.
_CLOSED_FORM_FROM = 1_000.0


@lru_cache(maxsize=1)
def opendp() -> SimpleNamespace:
    """OpenDP's parts, imported on first use.

    Not `opendp.prelude`: where scikit-learn is installed, that imports it, for half a second.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        parts = SimpleNamespace(
            **{
                name: importlib.import_module(f"opendp.{name}")
                for name in ("combinators", "domains", "measurements", "metrics", "mod")
            }
        )
    except ImportError as error:
        raise ConfigError(
            "this mechanism draws its noise with OpenDP, which is not installed here: "
            'run `pip install fi-stream[privacy]`, or set mechanism = "none" under [privacy].'
        ) from error
    parts.mod.enable_features("contrib")
    return parts


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon of one row that protects nothing, or drowns every answer.

    Raises:
        ConfigError: it is not a number from 0.001 to 32.
    """
    if not SMALLEST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise ConfigError(
            f"epsilon = {epsilon!r} under [privacy]: give one row {SMALLEST_EPSILON:g} to "
            f"{LARGEST_EPSILON:g}. Smaller drowns every answer, larger hides nothing: for no "
            'noise say mechanism = "none".'
        )


def check_delta(delta: float) -> None:
    """Refuse a delta that OpenDP cannot work with, or that gives everything away.

    Raises:
        ConfigError: it is not a number from 1e-15 to 0.01.
    """
    if not SMALLEST_DELTA <= delta <= LARGEST_DELTA:
        raise ConfigError(
            f"delta = {delta!r} under [privacy]: give {SMALLEST_DELTA:g} to {LARGEST_DELTA:g}, "
            "for example 1e-6; it is the chance that the guarantee does not hold."
        )


def keep_probability(epsilon: float, classes: int) -> float:
    """The chance that randomised response tells the truth: e^eps / (e^eps + classes - 1).

    Rounded down until OpenDP's own map says strictly less than `epsilon`, so that the charge may
    be the decimal number that the operator wrote.
    """
    dp = opendp()
    keep = 1 / (1 + (classes - 1) * math.exp(-epsilon))
    labels = list(range(classes))
    while dp.measurements.make_randomized_response(labels, keep).map(1) >= epsilon:
        keep = math.nextafter(keep, 0.0)
    return keep


def gaussian(scale: float) -> Any:
    """OpenDP's discrete Gaussian on integer vectors, `scale` being its standard deviation."""
    dp = opendp()
    space = (
        dp.domains.vector_domain(dp.domains.atom_domain(T="i64")),
        dp.metrics.l2_distance(T="f64"),
    )
    return dp.measurements.make_gaussian(*space, scale=scale)


def gaussian_scale(epsilon: float, delta: float, sensitivity: float) -> float:
    """The least standard deviation that OpenDP accounts as (epsilon, delta).

    Args:
        epsilon: of one row.
        delta: of one row.
        sensitivity: L2, in the unit of the result.
    """
    dp = opendp()

    def approximate(scale: float) -> Any:
        return dp.combinators.make_fix_delta(
            dp.combinators.make_zCDP_to_approxDP(gaussian(scale)), delta
        )

    # The closed form is never tighter than OpenDP, and epsilon is never below rho.
    most = sensitivity / math.sqrt(2 * _closed_form_rho(epsilon, delta)) * 1.01
    least = sensitivity / math.sqrt(2 * (2 * epsilon + 1))
    return float(
        dp.mod.binary_search_param(
            approximate, d_in=sensitivity, d_out=(epsilon, delta), bounds=(least, most), T=float
        )
    )


def epsilon_of(total: Charge, delta: float) -> float:
    """The epsilon of all that was charged, for showing: converted once, at the end.

    Args:
        total: a sum of charges; for nano-epsilon `delta` does not matter.
        delta: the chance that the guarantee does not hold.
    """
    if total.unit is Unit.NANO_EPSILON or total.amount == 0:
        return total.value
    return _epsilon_of_rho(math.nextafter(total.value, math.inf), delta)


def running_epsilon(total: Charge, delta: float) -> float:
    """An upper bound of `epsilon_of`, for each answer of a stream.

    OpenDP needs 2 ms to convert a rho. It is rounded up by at most 1/64, so that most answers find
    their rho converted already.
    """
    step = 1 << max(0, total.amount.bit_length() - 7)
    return epsilon_of(Charge(total.unit, -(-total.amount // step) * step), delta)


def limit_of(epsilon: float, delta: float) -> Charge:
    """The largest sum of nano-rho whose epsilon at `delta` is at most `epsilon`."""
    low = max(1, Charge.at_most(Unit.NANO_RHO, _closed_form_rho(epsilon, delta)).amount)
    high = Charge.at_least(Unit.NANO_RHO, 2 * epsilon + 1).amount
    while high - low > 1:
        middle = (low + high) // 2
        fits = epsilon_of(Charge(Unit.NANO_RHO, middle), delta) <= epsilon
        low, high = (middle, high) if fits else (low, middle)
    return Charge(Unit.NANO_RHO, low)


@lru_cache(maxsize=4096)
def _epsilon_of_rho(rho: float, delta: float) -> float:
    if rho > _CLOSED_FORM_FROM:
        return rho + 2 * math.sqrt(rho * math.log(1 / delta))
    dp = opendp()
    unit_noise = dp.measurements.make_gaussian(
        dp.domains.atom_domain(T="i64"), dp.metrics.absolute_distance(T="f64"), scale=1.0
    )
    distance = math.sqrt(2 * rho)
    while unit_noise.map(distance) < rho:
        distance = math.nextafter(distance, math.inf)
    return float(dp.combinators.make_zCDP_to_approxDP(unit_noise).map(distance).epsilon(delta))


def _closed_form_rho(epsilon: float, delta: float) -> float:
    """The rho at which rho + 2 sqrt(rho ln(1/delta)) is epsilon (Bun and Steinke 2016)."""
    log = math.log(1 / delta)
    # As a quotient: the difference of two roots would cancel for a small epsilon.
    return (epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))) ** 2
