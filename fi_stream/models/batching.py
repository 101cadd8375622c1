"""Several queries in one forward pass, and each one's own rows back out of it.

A model that returns another number of rows than it was given has answered nobody: which row
belongs to whom is then unknown.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.models.prediction import check, fitting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.federation.member import Gives
    from fi_stream.models.port import Inputs, Model
    from fi_stream.models.prediction import Prediction


def predict_each(
    model: Model, queries: Sequence[Inputs], classes: int, gives: Gives
) -> list[Prediction | Refusal]:
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
    bounds = pairwise(accumulate(rows, initial=0))
    if checked.all_usable:
        return [checked.probabilities[start:stop] for start, stop in bounds]
    return [checked.part(slice(start, stop)) for start, stop in bounds]


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
