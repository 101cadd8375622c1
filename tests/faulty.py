"""Mechanisms with a planted fault: each declares what it should give, and gives more away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.federation.policy import Form
from fi_stream.privacy.mechanisms import GRID, DiscreteGaussian, RandomisedResponse, Released

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fi_stream.privacy.mechanisms import NoiseMechanism


CLASSES = 4


class _Faulty:
    """Declares and charges as the honest mechanism does."""

    def __init__(self, honest: NoiseMechanism) -> None:
        self.honest = honest

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)


class Halved(_Faulty):
    """Half of the noise: labels at twice the epsilon, half of the standard deviation."""

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        if isinstance(self.honest, RandomisedResponse):
            twice = self.__dict__.setdefault(
                "twice", RandomisedResponse(self.honest.categories, 2 * self.honest.cost.value)
            )
            return twice.release(probabilities)
        exact = np.floor(probabilities * GRID + 0.5)
        released = self.honest.release(probabilities)
        values = exact + np.floor((released.values - exact) / 2)
        return Released(released.form, values.astype(np.int64), released.scale)


class More(_Faulty):
    """No fault: labels at three quarters of the epsilon that is declared."""

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        more = self.__dict__.setdefault(
            "more",
            RandomisedResponse(self.honest.categories, 0.75 * self.honest.cost.value),
        )
        return more.release(probabilities)


class RoundedAfter(_Faulty):
    """Adds its noise to the prediction as it is, and rounds afterwards, to a finer grid."""

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        released = self.honest.release(probabilities)
        noise = released.values - np.floor(probabilities * GRID + 0.5)
        values = np.floor((probabilities * GRID + noise) * 16 + 0.5)
        return Released(Form.PROBABILITIES, values.astype(np.int64), GRID * 16)


class NeverRounded(_Faulty):
    """Adds its noise to the prediction as it is, and does not round at all."""

    in_steps = True

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        released = self.honest.release(probabilities)
        noise = released.values - np.floor(probabilities * GRID + 0.5)
        values = probabilities * GRID + noise
        if self.in_steps:
            return Released(Form.PROBABILITIES, values, GRID)
        return Released(Form.PROBABILITIES, values / GRID)


class Constant(_Faulty):
    """Gives the noise of its first row to every row."""

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        released = self.honest.release(probabilities)
        label = self.honest.form is Form.LABEL
        exact = probabilities.argmax(axis=1) if label else np.floor(probabilities * GRID + 0.5)
        noise = self.__dict__.setdefault("noise", (released.values - exact)[0])
        values = (exact + noise).astype(np.int64)
        return Released(
            released.form, values % probabilities.shape[1] if label else values, released.scale
        )


class Reused(_Faulty):
    """Gives the noise of each block of so many rows twice."""

    block = 64

    def __init__(self, honest: NoiseMechanism) -> None:
        super().__init__(honest)
        self.left: list[NDArray[np.int64]] = []

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        released = self.honest.release(probabilities)
        classes = probabilities.shape[1]
        if self.honest.form is Form.LABEL:
            exact = probabilities.argmax(axis=1)
        else:
            exact = np.floor(probabilities * GRID + 0.5).astype(np.int64)
        noise = self._twice(released.values - exact)
        values = exact + noise
        if self.honest.form is Form.LABEL:
            values = values % classes
        return Released(released.form, values, released.scale)

    def _twice(self, fresh: NDArray[np.int64]) -> NDArray[np.int64]:
        drawn = iter(fresh)
        given = []
        for _ in range(len(fresh)):
            if len(self.left) == 2 * self.block:
                self.left = []
            if len(self.left) < self.block:
                self.left.append(next(drawn))
                given.append(self.left[-1])
            else:
                given.append(self.left[len(self.left) - self.block])
                self.left.append(given[-1])
        return np.array(given)


def honest_gaussian() -> DiscreteGaussian:
    return DiscreteGaussian(2.0, 1e-6)


def honest_label() -> RandomisedResponse:
    return RandomisedResponse(CLASSES, 2.0)


FAULTS: tuple[tuple[Callable[[], NoiseMechanism], Callable[[Any], Any], str], ...] = (
    (honest_label, Halved, "the label"),
    (honest_label, Reused, "rows apart"),
    (honest_gaussian, Halved, "the score"),
    (honest_gaussian, RoundedAfter, "the last digits"),
    (honest_gaussian, NeverRounded, "the last digits"),
    (honest_gaussian, Reused, "rows apart"),
    (honest_gaussian, Constant, ""),
    (honest_label, Constant, ""),
)
