"""What the rest of the library asks of a model, whatever it was made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

Inputs: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays [rows, *shape] by the task's input names, with the task's datatypes (object for BYTES)."""


Features: TypeAlias = Callable[[Inputs], NDArray[Any]]
"""What a model makes of rows before it decides: [rows, features], always equally many."""

Forms: TypeAlias = Callable[[Inputs], Sequence[Inputs]]
"""Other forms of the same rows, each of as many, always equally many forms."""


class Model(Protocol):
    """A participant's model; `predict` runs off the event loop, in one thread at a time.

    One made by a factory may have two more methods, for rules that ask more of it: `features`, the
    last hidden layers and the logits, and `forms`, its own augmented forms of a query.
    """

    @property
    def version(self) -> str:
        """What travels beside each answer, so that a change of model can be seen."""

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Answer all rows in one forward pass: [rows, classes], probabilities or logits."""


def features_of(model: Model) -> Features | None:
    """The model's own features, if it has any."""
    found: Features | None = getattr(model, "features", None)
    return found


def forms_of(model: Model) -> Forms | None:
    """The model's own forms of a query, if it has any."""
    found: Forms | None = getattr(model, "forms", None)
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: exactly one of the first three.

    `factory` is "module:callable"; `onnx` and `exported` are paths, taken from the member's
    directory when relative; `sha256` pins an exported model; `device` is torch's name for where a
    torch model runs, None leaving it where it is; `version` replaces the default, the first 12
    hex digits of the SHA-256 of the file or module.
    """

    factory: str | None = None
    onnx: Path | None = None
    exported: Path | None = None
    sha256: str | None = None
    device: str | None = None
    version: str | None = None
