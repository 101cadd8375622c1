"""What one row is said to cost, as the distinguishing game needs it."""

from __future__ import annotations

from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.calibration import epsilon_of
from fi_stream.privacy.distinguishing import Claim


def claim_of(cost: Charge, epsilon: float, delta: float) -> Claim:
    """The claim of a mechanism; of what is charged in rho, that of Gaussian noise.

    Args:
        cost: of one row.
        epsilon: what it is said to be.
        delta: the same.
    """
    if cost.unit is Unit.NANO_EPSILON:
        return Claim(epsilon, delta)

    def rho_epsilon(rho: float) -> float:
        return epsilon_of(Charge.at_most(Unit.NANO_RHO, rho), delta)

    return Claim(epsilon, delta, cost.value, rho_epsilon)
