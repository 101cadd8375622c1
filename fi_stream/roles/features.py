"""What a participant's model makes of a row, for the density of its training data to be learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.errors import ModelError
from fi_stream.events.refusals import Refusal
from fi_stream.federation.member import Gives
from fi_stream.models.batching import features_each
from fi_stream.models.port import features_of
from fi_stream.models.probe import TRIED_ROWS, made_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.federation.task import Task
    from fi_stream.models.batching import Predicted
    from fi_stream.models.port import Features, Inputs, Model

MOST_FEATURES: Final = 512
"""Of a row: what is kept of each client grows with them, and learning with their square."""

_LARGEST: Final = 1e6
_LEAST: Final = 1e-6
"""A probability below that says no more."""


class RowFeatures:
    """The model's own features; without them its logits, or the logarithms of its probabilities.

    Args:
        model: the participant's.
        gives: what it returns.
        task: what it answers.

    Raises:
        ModelError: its features fail on made-up rows, or are more than can be learnt from.
    """

    def __init__(self, model: Model, gives: Gives, task: Task) -> None:
        self._own = features_of(model)
        self._gives = gives
        self._width = len(task.classes)
        if self._own is not None:
            self._width = _width_of(self._own, task)
        if not 1 <= self._width <= MOST_FEATURES:
            raise ModelError(
                f"a row has {self._width} features, and 1 to {MOST_FEATURES} can be learnt from: "
                "give the model a `features(inputs)` with fewer, leaving some layers out or "
                "projecting them."
            )

    def of(
        self, inputs: Sequence[Inputs], predicted: Sequence[Predicted]
    ) -> list[NDArray[np.float64] | Refusal]:
        """Those of each query, [rows, features]: of its inputs, and of what the model said."""
        if self._own is None:
            return [self._of_outputs(one) for one in predicted]
        found = features_each(self._own, inputs, self._width)
        return [one if isinstance(one, Refusal) else bounded(one) for one in found]

    def _of_outputs(self, predicted: Predicted) -> NDArray[np.float64]:
        if self._gives is Gives.LOGITS:
            return bounded(predicted.outputs)
        return np.asarray(np.log(np.maximum(predicted.probabilities, _LEAST)))


def bounded(numbers: NDArray[np.generic]) -> NDArray[np.float64]:
    """So that none is too large to be squared."""
    return np.clip(numbers.astype(np.float64), -_LARGEST, _LARGEST)


def _width_of(features: Features, task: Task) -> int:
    """How many features a row has, by those of one row and of several."""
    width: int | None = None
    for rows in TRIED_ROWS:
        trial = f"on a trial with {rows} made-up row(s)"
        try:
            features(made_up(task, rows))
        except Exception as error:
            what = f"the model's `features` raised {type(error).__name__} {trial}: {error}"
            raise ModelError(what) from error
        [found] = features_each(features, [made_up(task, rows)], width)
        if isinstance(found, Refusal):
            raise ModelError(
                f"the model's `features`, {trial}: {found.detail} ({found.reason}). It must give "
                "[rows, features], always equally many."
            )
        width = found.shape[1]
    return width or 0
