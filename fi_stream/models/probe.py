"""A model is tried on made-up rows at start, so that it does not fail on the first query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.errors import ModelError
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype
from fi_stream.models.prediction import check, fitting

if TYPE_CHECKING:
    from fi_stream.federation.member import Gives
    from fi_stream.federation.task import Task
    from fi_stream.models.port import Inputs, Model

TRIED_ROWS: Final = (1, 3)
"""Some models answer one row only, others squeeze it away."""


def probe(model: Model, task: Task, gives: Gives) -> None:
    """Have the model answer one row, then three, of zeros and empty bytes.

    Raises:
        ModelError: it raised, or what came back is no prediction for the task.
    """
    for rows in TRIED_ROWS:
        refusal = _try(model, task, gives, rows)
        if refusal is not None:
            raise ModelError(
                f"the model does not fit the task, on a trial with {rows} made-up row(s): "
                f"{refusal.detail} ({refusal.reason}). The task wants {gives.value} of "
                f"{len(task.classes)} classes for each row of {_wanted(task)}."
            )


def made_up(task: Task, rows: int) -> Inputs:
    """Inputs of zeros, and of empty bytes, as the task wants them."""
    return {
        spec.name: np.full(
            (rows, *spec.shape),
            b"" if spec.datatype is Datatype.BYTES else 0,
            dtype=spec.datatype.numpy,
        )
        for spec in task.inputs
    }


def _try(model: Model, task: Task, gives: Gives, rows: int) -> Refusal | None:
    try:
        outputs = fitting(model.predict(made_up(task, rows)), rows, len(task.classes))
    except Exception as error:
        raise ModelError(
            f"the model raised {type(error).__name__} on a trial with {rows} made-up row(s) of "
            f"{_wanted(task)}: {error}"
        ) from error
    if isinstance(outputs, Refusal):
        return outputs
    answer = check(outputs, gives).part(slice(None))
    return answer if isinstance(answer, Refusal) else None


def _wanted(task: Task) -> str:
    return ", ".join(f"{i.name} {i.datatype} {list(i.shape)}" for i in task.inputs)
