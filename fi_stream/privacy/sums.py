"""What a participant lets go under `secagg`: its contribution in steps, noised as the policy says.

The noise is the federation's, not the member's: only the sum of all parts is ever opened.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Noise
from fi_stream.federation.member import Mechanism
from fi_stream.privacy import calibration
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.weighted import WeightedGaussian, l2_sensitivity, whole_steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.federation.member import PrivacySection
    from fi_stream.federation.policy import SecaggPolicy
    from fi_stream.privacy.accountant import Charge
    from fi_stream.privacy.draws import NoiseSource

CAP_STEPS: Final = GRID
"""The largest number of a contribution before its noise: a weight of 1."""


def part_of(policy: SecaggPolicy) -> float:
    """The standard deviation of one participant's part of the noise, in steps; 0 without noise.

    Needs no OpenDP: whoever opens a sum checks its range by it.
    """
    if policy.epsilon is None or policy.delta is None:
        return 0.0
    whole = calibration.gaussian_scale(policy.epsilon, policy.delta, l2_sensitivity(CAP_STEPS))
    return math.nextafter(whole / math.sqrt(policy.honest), math.inf)


def refuse_own(policy: SecaggPolicy, privacy: PrivacySection) -> str | None:
    """Why a member that wants at least its own `[privacy]` cannot answer; None when it can."""
    if privacy.mechanism is Mechanism.NONE and policy.epsilon is None:
        return None
    if policy.epsilon is None or policy.delta is None:
        return (
            f"the policy's secure sums carry no noise, and [privacy] asks for "
            f"{privacy.mechanism.value!r}: ask the federation for epsilon and delta under "
            '[policy.secagg], or set mechanism = "none".'
        )
    if privacy.mechanism is not Mechanism.GAUSSIAN:
        return (
            'secure sums carry Gaussian noise: set mechanism = "gaussian" under [privacy], with '
            "the most epsilon and delta that you allow a row, and a budget."
        )
    if privacy.epsilon is None or privacy.delta is None:
        return "mechanism 'gaussian' under [privacy] needs epsilon and delta; add them."
    for name, asked, allowed in (
        ("epsilon", policy.epsilon, privacy.epsilon),
        ("delta", policy.delta, privacy.delta),
    ):
        if asked > allowed:
            return (
                f"a row of a secure sum costs {name} {asked:g} by the policy, and [privacy] allows "
                f"{allowed:g}: raise it, or ask the federation for less under [policy.secagg]."
            )
    return None


class SumNoise:
    """A participant's part in secure sums, and what it costs.

    Args:
        policy: the federation's.
        source: of the noise; without one it is drawn here.

    Raises:
        ConfigError: epsilon or delta is out of range, or OpenDP is not installed.
    """

    def __init__(self, policy: SecaggPolicy, source: NoiseSource | None = None) -> None:
        self._noise: WeightedGaussian | None = None
        if policy.epsilon is not None and policy.delta is not None:
            self._noise = WeightedGaussian(
                policy.epsilon, policy.delta, policy.honest, source=source
            )

    @property
    def cost(self) -> Charge | None:
        """Of one row; None without noise."""
        return None if self._noise is None else self._noise.cost

    def release(self, contributions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Contributions [rows, columns] in steps, with their part of the noise. Charge first."""
        if self._noise is None:
            return whole_steps(contributions, CAP_STEPS)
        return self._noise.release(contributions)

    def declare(self, rows: int, total: Charge) -> Noise:
        """What an answer of `rows` rows declares, when `total` is charged to its client so far."""
        if self._noise is None:
            raise ConfigError("a sum without noise declares none")
        delta = self._noise.delta
        return Noise(
            mechanism=Mechanism.GAUSSIAN.value,
            epsilon=calibration.epsilon_of(self._noise.cost.times(rows), delta),
            delta=delta,
            total=calibration.running_epsilon(total, delta),
        )
