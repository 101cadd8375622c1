"""Whether what a model returned is a prediction: caught before noise and charge (DESIGN 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.member import Gives

Prediction: TypeAlias = NDArray[np.float64]
"""Probabilities of one query, [rows, classes], each row on the simplex."""

SUM_TOLERANCE = 1e-3
"""How far from 1 a row may add up: float16 probabilities reach 5e-4."""

NEGATIVE_TOLERANCE = 1e-6
"""How far below 0 rounding may take a probability."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Every row of one forward pass, and which rows may be used.

    `probabilities` is float64 [rows, classes]; a row that is `finite` and `on_simplex` (bool
    [rows]) has no negative entry and adds up to 1, others hold nothing of meaning.
    """

    probabilities: NDArray[np.float64] = field(repr=False)
    finite: NDArray[np.bool_]
    on_simplex: NDArray[np.bool_]

    @property
    def all_usable(self) -> bool:
        """Whether every row may be used."""
        return bool(self.finite.all() and self.on_simplex.all())

    def part(self, rows: slice) -> Prediction | Refusal:
        """The prediction of these rows; `not_finite` or `not_a_prediction` if one is unusable."""
        if not self.finite[rows].all():
            return Refusal(Reason.NOT_FINITE, "the model returned NaN or infinity")
        if not self.on_simplex[rows].all():
            return Refusal(
                Reason.NOT_A_PREDICTION,
                "the model's answer has a negative entry or adds up to more or less than 1",
            )
        return self.probabilities[rows]


def fitting(outputs: Any, rows: int, classes: int) -> NDArray[Any] | Refusal:
    """What a model returned as an array [rows, classes] of real numbers.

    Returns:
        A refusal `wrong_shape`, or `not_a_prediction` when it holds no real numbers.

    Raises:
        Exception: what numpy raises for a thing that is no array.
    """
    array = np.asarray(outputs)
    if array.dtype.kind not in "fiub":
        return Refusal(Reason.NOT_A_PREDICTION, f"the model returned {array.dtype}, not numbers")
    if array.shape != (rows, classes):
        return Refusal(
            Reason.WRONG_SHAPE,
            f"the model returned shape {list(array.shape)}, and {rows} rows of {classes} classes "
            f"make {[rows, classes]}",
        )
    return array


def check(outputs: NDArray[Any], gives: Gives) -> Checked:
    """Turn a model's outputs into probabilities.

    Args:
        outputs: real numbers of any width, [rows, classes].
        gives: whether they are probabilities or logits.
    """
    numbers = outputs.astype(np.float64)
    finite = _rowwise(np.isfinite(numbers))
    numbers = np.where(finite[:, None], numbers, 0.0)
    with np.errstate(over="ignore"):  # of numbers far beyond any prediction
        if gives is Gives.LOGITS:
            return Checked(softmax(numbers), finite, np.ones_like(finite))
        adds_up = np.abs(numbers.sum(axis=1) - 1) <= SUM_TOLERANCE
    on_simplex = adds_up & _rowwise(numbers >= -NEGATIVE_TOLERANCE)
    clipped = np.where(on_simplex[:, None], np.maximum(numbers, 0.0), 1.0)
    return Checked(clipped / clipped.sum(axis=1, keepdims=True), finite, on_simplex)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of finite logits, [rows, classes]; the largest becomes 0, so none overflows."""
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = grown / grown.sum(axis=1, keepdims=True)
    return probabilities


def _rowwise(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(holds.all(axis=1))
