"""The noise on one participant's answer, drawn by OpenDP and by nothing else (DESIGN 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fi_stream.events.payloads import Noise
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Form
from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.draws import Gaussians, Offsets
from fi_stream.privacy.pool import Pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.privacy.draws import NoiseSource

GRID = 2**16
"""Integer steps in 1.0 for Gaussian answers: rounding is far below any noise that we allow."""


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What leaves the participant.

    `values` is int64 [rows] for labels, int64 [rows, classes] on a grid of `scale` steps to 1.0
    for Gaussian noise, float64 [rows, classes] without noise. Labels with a `scale` carry a weight:
    label * scale + level, of weight (level + 1) / scale.
    """

    form: Form
    values: NDArray[np.int64] | NDArray[np.float64] = field(repr=False)
    scale: int | None = None


class NoiseMechanism(Protocol):
    """Turns a checked prediction into what may leave, and says what that costs.

    `cost` is of one row, None where nothing is promised; a query of r rows is r charges.
    """

    @property
    def form(self) -> Form:
        """What each answer carries."""

    @property
    def cost(self) -> Charge | None:
        """Of one row."""

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """Noise a prediction, [rows, classes], each row on the simplex. Charge first."""

    def limit(self, epsilon: float) -> Charge | None:
        """A budget of that epsilon, in the unit of `cost`."""

    def declare(self, rows: int, total: Charge) -> Noise | None:
        """What an answer of `rows` rows declares, when `total` is charged to its client so far."""


class NoNoise:
    """Releases the prediction itself, or its best class."""

    cost = None

    def __init__(self, form: Form) -> None:
        self.form = form

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """The prediction as it is; as a label, its best class (the first of equals)."""
        if self.form is Form.LABEL:
            return Released(self.form, probabilities.argmax(axis=1).astype(np.int64))
        return Released(self.form, probabilities)

    def limit(self, epsilon: float) -> None:
        """None: what is not noised cannot be rationed. `epsilon` does not matter."""

    def declare(self, rows: int, total: Charge) -> None:
        """None: no guarantee, whatever `rows` and `total` are."""


class RandomisedResponse:
    """Tells the best class with probability e^eps / (e^eps + classes - 1), else one of the others.

    Pure epsilon-differential privacy for each row. The noise is drawn ahead, before any label is
    known, as an offset: 0 for the truth, else 1 .. classes - 1 alike. The answer is
    (label + offset) mod classes. Given a label this is a bijection from offsets to answers, so
    each answer has the probability that randomised response gives it: the truth `keep`, each
    other class (1 - keep) / (classes - 1).

    With `levels` above 1 each class is told with how sure the model is: a category is a class and
    a level, so that there are classes * levels of them, and the weight is inside the noise.

    Args:
        classes: how many the task has.
        epsilon: of one row.
        levels: of the weight.
        source: of the noise.

    Raises:
        ConfigError: epsilon is out of range, or OpenDP is not installed.
    """

    form = Form.LABEL

    def __init__(
        self, classes: int, epsilon: float, levels: int = 1, source: NoiseSource | None = None
    ) -> None:
        calibration.check_epsilon(epsilon)
        self.levels = levels
        self.categories = classes * levels
        self.keep = calibration.keep_probability(epsilon, self.categories)
        self.cost = Charge.at_least(Unit.NANO_EPSILON, epsilon)
        self._kind = Offsets(self.categories, self.keep)
        self._source = source or Pools()
        self._source.take(self._kind, 0)  # so that it is drawn ahead

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """Labels, int64 [rows]; with more than one level, label * levels + level."""
        truth = probabilities.argmax(axis=1)
        if self.levels > 1:
            truth = truth * self.levels + _level(probabilities, self.levels)
        offsets = self._source.take(self._kind, len(truth))
        scale = self.levels if self.levels > 1 else None
        return Released(self.form, (truth + offsets) % self.categories, scale)

    def limit(self, epsilon: float) -> Charge:
        """A budget of that epsilon, in nano-epsilon."""
        return Charge.at_most(Unit.NANO_EPSILON, epsilon)

    def declare(self, rows: int, total: Charge) -> Noise:
        """The epsilon of `rows` rows, and of all that was charged."""
        return Noise(
            mechanism=Mechanism.RANDOMISED_RESPONSE.value,
            epsilon=self.cost.times(rows).value,
            delta=0.0,
            total=total.value,
        )


class DiscreteGaussian:
    """Rounds probabilities to integers on a grid and adds discrete Gaussian noise to each.

    (epsilon, delta)-differential privacy for each row, accounted in zCDP. OpenDP adds the same
    noise to any vector, so its noise on a zero vector, drawn ahead, is added to the answer.

    The L2 sensitivity is that of the rounded vector, in steps. Halves round up, so an entry y > 0
    came from at least y - 1/2, and sum(2y - 1) over the positive entries is at most twice GRID:
    the sum of y^2 is then at most GRID^2 + 1, and two vectors without a negative entry are at most
    sqrt(2 GRID^2 + 2) apart.

    Args:
        epsilon: of one row, at `delta`.
        delta: of one row.
        source: of the noise.

    Raises:
        ConfigError: epsilon or delta is out of range, or OpenDP is not installed.
    """

    form = Form.PROBABILITIES

    def __init__(self, epsilon: float, delta: float, source: NoiseSource | None = None) -> None:
        calibration.check_epsilon(epsilon)
        calibration.check_delta(delta)
        sensitivity = math.nextafter(math.sqrt(2 * GRID**2 + 2), math.inf)
        self.delta = delta
        self.sigma = calibration.gaussian_scale(epsilon, delta, sensitivity) / GRID
        noise = calibration.gaussian(self.sigma * GRID)
        rho = float(noise.map(sensitivity))
        # One step up: the charge is read from the shortest decimal, which may be below the float.
        self.cost = Charge.at_least(Unit.NANO_RHO, math.nextafter(rho, math.inf))
        self._kind = Gaussians(self.sigma * GRID)
        self._source = source or Pools()
        self._source.take(self._kind, 0)  # so that it is drawn ahead

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """Integers on the grid, int64 [rows, classes]; noise may take them below 0 or above 1."""
        steps = np.floor(probabilities * GRID + 0.5).astype(np.int64)
        noise = self._source.take(self._kind, steps.size).reshape(steps.shape)
        return Released(self.form, steps + noise, GRID)

    def limit(self, epsilon: float) -> Charge:
        """A budget of that epsilon at this delta, in nano-rho."""
        return calibration.limit_of(epsilon, self.delta)

    def declare(self, rows: int, total: Charge) -> Noise:
        """The epsilon of `rows` rows, and a close upper bound for all that was charged."""
        return Noise(
            mechanism=Mechanism.GAUSSIAN.value,
            epsilon=calibration.epsilon_of(self.cost.times(rows), self.delta),
            delta=self.delta,
            total=calibration.running_epsilon(total, self.delta),
        )


def _level(probabilities: NDArray[np.float64], levels: int) -> NDArray[np.int64]:
    """How sure each row is, int64 [rows] in 0 .. levels - 1: exp(-entropy) in equal steps."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    sureness = np.exp((probabilities * logarithms).sum(axis=1))
    found: NDArray[np.int64] = np.minimum((sureness * levels).astype(np.int64), levels - 1)
    return found
