"""The forms in which a participant asks its model a query, for the rules `tta_*`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.augmented import rotations
from fi_stream.errors import ModelError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.member import Forms
from fi_stream.models.port import forms_of
from fi_stream.models.probe import TRIED_ROWS, made_up

if TYPE_CHECKING:
    from fi_stream.federation.member import ModelSection
    from fi_stream.federation.task import Task
    from fi_stream.models.port import Inputs, Model


@dataclass(frozen=True, slots=True)
class AskedForms:
    """Makes `number` forms of a query's inputs; `by` may be a member's own code."""

    by: Callable[[Inputs], Sequence[Inputs]]
    number: int

    def of(self, inputs: Inputs) -> Sequence[Inputs] | Refusal:
        """All forms of a query: `model_failed` or `wrong_shape` where they are none."""
        try:
            made = list(self.by({name: array.copy() for name, array in inputs.items()}))
            unlike = next((one for one in made if not _alike(one, inputs)), None)
        except Exception as error:  # noqa: BLE001  (a member's own model may raise anything)
            return Refusal(Reason.MODEL_FAILED, f"its forms raised {type(error).__name__}")
        if unlike is not None:
            return Refusal(Reason.WRONG_SHAPE, "a form is not as the task's inputs are")
        if len(made) != self.number:
            return Refusal(Reason.WRONG_SHAPE, f"{len(made)} forms instead of {self.number}")
        return made


def forms_wanted(model: Model, section: ModelSection, task: Task) -> AskedForms | None:
    """The forms that a member's file asks for, tried on made-up rows; None where it asks for none.

    Raises:
        ModelError: the model makes none, or what it makes is none.
    """
    if section.forms is None:
        return None
    if section.forms is Forms.ROTATIONS:
        return AskedForms(lambda inputs: _turned(inputs, task.inputs[0].name), 4)
    own = forms_of(model)
    if own is None:
        raise ModelError(
            'forms = "own" under [model], and the model has no `forms(inputs)`: define it in the '
            "object that the factory returns, giving a list of inputs."
        )
    number = 0
    for rows in TRIED_ROWS:
        tried = made_up(task, rows)
        try:
            number = number or len(list(own(tried)))
        except Exception as error:
            raise ModelError(
                f"the model's `forms` raised {type(error).__name__} on a trial with {rows} made-up "
                f"row(s): {error}"
            ) from error
        found = AskedForms(own, number).of(tried)
        if isinstance(found, Refusal) or not number:
            why = found.detail if isinstance(found, Refusal) else "no form"
            raise ModelError(
                f"the model's `forms`, on a trial with {rows} made-up row(s): {why}. Each must be "
                "a mapping of the task's inputs, with their rows, shapes and datatypes, and there "
                "must be always equally many."
            )
    return AskedForms(own, number)


def _turned(inputs: Inputs, name: str) -> Sequence[Inputs]:
    return [{name: np.ascontiguousarray(one)} for one in rotations(inputs[name])]


def _alike(form: object, inputs: Inputs) -> bool:
    return (
        isinstance(form, Mapping)
        and form.keys() == inputs.keys()
        and all(
            isinstance(form[name], np.ndarray)
            and form[name].shape == array.shape
            and form[name].dtype == array.dtype
            for name, array in inputs.items()
        )
    )
