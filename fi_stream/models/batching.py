"""Several queries in one forward pass, and each one's own rows back out of it.

A model that returns another number of rows than it was given has answered nobody: which row
belongs to whom is then unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.models.prediction import check, fitting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.federation.member import Gives
    from fi_stream.models.port import Features, Inputs, Model
    from fi_stream.models.prediction import Checked, Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """A query's own rows of a forward pass: `outputs` is what the model itself returned."""

    probabilities: Prediction = field(repr=False)
    outputs: NDArray[Any] = field(repr=False)


def predict_each(
    model: Model, queries: Sequence[Inputs], classes: int, gives: Gives
) -> list[Predicted | Refusal]:
    """Answer every query, in one forward pass if the model stands it.

    When the model raises on several queries, each is tried alone, so that a bad one fails alone.

    Args:
        model: the participant's.
        queries: each one's inputs, checked against the task; at least one row each.
        classes: of the task.
        gives: what the model returns.

    Returns:
        For each query in order: its prediction, or `model_failed`, `wrong_shape`,
        `not_a_prediction` or `not_finite`.
    """
    if not queries:
        return []
    rows = [_rows(query) for query in queries]
    outputs = _forward(model, _joined(queries), sum(rows), classes)
    if isinstance(outputs, Refusal):
        if outputs.reason is Reason.MODEL_FAILED and len(queries) > 1:
            return [predict_each(model, [query], classes, gives)[0] for query in queries]
        return [outputs] * len(queries)
    checked = check(outputs, gives)
    parts = [slice(start, stop) for start, stop in pairwise(accumulate(rows, initial=0))]
    if checked.all_usable:
        return [Predicted(checked.probabilities[part], outputs[part]) for part in parts]
    return [_part(checked, outputs, part) for part in parts]


def features_each(
    features: Features, queries: Sequence[Inputs], width: int | None = None
) -> list[NDArray[np.float64] | Refusal]:
    """What the model makes of each query, in one pass if the model stands it.

    Args:
        features: the model's own.
        queries: as `predict_each` takes them.
        width: how many features a row has; None if that is not known yet.

    Returns:
        For each query in order: [rows, features], finite, or `model_failed`, `wrong_shape` or
        `not_finite`.
    """
    if not queries:
        return []
    rows = [_rows(query) for query in queries]
    found = _features(features, _joined(queries), (sum(rows), width))
    if isinstance(found, Refusal):
        if len(queries) > 1:
            return [features_each(features, [query], width)[0] for query in queries]
        return [found]
    return [found[start:stop] for start, stop in pairwise(accumulate(rows, initial=0))]


def _features(
    features: Features, inputs: Inputs, shape: tuple[int, int | None]
) -> NDArray[np.float64] | Refusal:
    try:
        found = np.asarray(features(inputs), dtype=np.float64)
    except Exception as error:  # noqa: BLE001  (a member's own model may raise anything)
        return Refusal(Reason.MODEL_FAILED, f"its features raised {type(error).__name__}")
    rows, width = shape
    if found.ndim != 2 or len(found) != rows or (width is not None and found.shape[1] != width):
        wanted = [rows, "features" if width is None else width]
        return Refusal(Reason.WRONG_SHAPE, f"features {list(found.shape)} instead of {wanted}")
    if not np.isfinite(found).all():
        return Refusal(Reason.NOT_FINITE, "the model's features hold NaN or infinity")
    return found


def _part(checked: Checked, outputs: NDArray[Any], rows: slice) -> Predicted | Refusal:
    found = checked.part(rows)
    return found if isinstance(found, Refusal) else Predicted(found, outputs[rows])


def _forward(model: Model, inputs: Inputs, rows: int, classes: int) -> NDArray[Any] | Refusal:
    try:
        outputs = model.predict(inputs)
        return fitting(outputs, rows, classes)
    except Exception as error:  # noqa: BLE001  (a member's own model may raise anything)
        # Not its message, which may quote the query.
        return Refusal(Reason.MODEL_FAILED, f"the model raised {type(error).__name__}")


def _joined(queries: Sequence[Inputs]) -> Inputs:
    # Copied also for one query: what came off the wire is read-only, which torch warns about.
    return {name: np.concatenate([q[name] for q in queries]) for name in queries[0]}


def _rows(query: Inputs) -> int:
    return len(next(iter(query.values())))
