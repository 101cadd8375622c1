"""How much noise a declared epsilon needs, and what a sum of charges comes to (DESIGN 10).

The only module that imports OpenDP, and only when a mechanism is built or a total is shown.
"""

from __future__ import annotations

import importlib
import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Selection
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.profile import epsilon_of_rho, rho_of_epsilon

SMALLEST_EPSILON = 0.001
LARGEST_EPSILON = 32.0
SMALLEST_DELTA = 1e-15
LARGEST_DELTA = 0.01

_PARTS = ("combinators", "domains", "measurements", "measures", "metrics", "mod")


@lru_cache(maxsize=1)
def opendp() -> SimpleNamespace:
    """OpenDP's parts, imported on first use.

    Not `opendp.prelude`: where scikit-learn is installed, that imports it, for half a second.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        parts = SimpleNamespace(
            **{name: importlib.import_module(f"opendp.{name}") for name in _PARTS}
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
    """The least standard deviation that gives (epsilon, delta), and hardly more.

    Args:
        epsilon: of one row.
        delta: of one row.
        sensitivity: L2, in the unit of the result.
    """
    scale = sensitivity / math.sqrt(2 * rho_of_epsilon(epsilon, delta))
    return math.nextafter(scale, math.inf)


def noisy_max(selection: Selection, scale: float) -> Any:
    """OpenDP's noisy max on integer votes; what is told is a place in the vector.

    It is permute-and-flip where OpenDP measures in pure epsilon, and the exponential mechanism
    where it measures in zCDP.
    """
    dp = opendp()
    space = (
        dp.domains.vector_domain(dp.domains.atom_domain(T="i64")),
        dp.metrics.linf_distance(T="i64"),
    )
    measure = (
        dp.measures.max_divergence()
        if selection is Selection.PERMUTE_AND_FLIP
        else dp.measures.zero_concentrated_divergence()
    )
    return dp.measurements.make_noisy_max(*space, measure, scale=scale)


def noisy_max_scale(selection: Selection, epsilon: float) -> float:
    """The scale at which one changed vote costs `epsilon`: 2 / epsilon, or hardly more.

    Rounded up until OpenDP's own map says strictly less than `epsilon`.
    """
    scale = 2 / epsilon
    while noisy_max_epsilon(selection, scale) >= epsilon:
        scale = math.nextafter(scale, math.inf)
    return scale


def noisy_max_epsilon(selection: Selection, scale: float) -> float:
    """What OpenDP says that one changed vote costs, as pure epsilon.

    Of the exponential mechanism it says rho = epsilon^2 / 8, epsilon being the range within which
    the privacy loss stays (Dong, Durfee and Rogers 2019), and so a bound of it, too.
    """
    cost = float(noisy_max(selection, scale).map(1))
    return cost if selection is Selection.PERMUTE_AND_FLIP else math.sqrt(8 * cost)


def epsilon_of(total: Charge, delta: float) -> float:
    """The epsilon of all that was charged, for showing: converted once, at the end.

    Args:
        total: a sum of charges; for nano-epsilon `delta` does not matter. Nano-rho are those of
            Gaussian releases, and of nothing else (`profile`).
        delta: the chance that the guarantee does not hold.
    """
    if total.unit is Unit.NANO_EPSILON or total.amount == 0:
        return total.value
    return epsilon_of_rho(math.nextafter(total.value, math.inf), delta)


def running_epsilon(total: Charge, delta: float) -> float:
    """An upper bound of `epsilon_of`, for each answer of a stream.

    A rho takes 0.1 ms to convert. It is rounded up by at most 1/64, so that most answers find
    their rho converted already.
    """
    step = 1 << max(0, total.amount.bit_length() - 7)
    return epsilon_of(Charge(total.unit, -(-total.amount // step) * step), delta)


def limit_of(epsilon: float, delta: float) -> Charge:
    """The largest sum of nano-rho whose epsilon at `delta` is at most `epsilon`."""
    rho = rho_of_epsilon(epsilon, delta)
    limit = Charge.at_most(Unit.NANO_RHO, rho)
    while epsilon_of(limit, delta) > epsilon:  # by rounding
        limit = Charge(Unit.NANO_RHO, limit.amount - 1)
    return limit
