"""The task a federation serves: its inputs, outputs and classes, named by one hash (DESIGN 5)."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from math import prod
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le, Len
from pydantic import StringConstraints, model_validator

from fi_stream.events.tensors import Datatype
from fi_stream.federation.settings import Settings

_Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Axis = Annotated[int, Ge(1), Le(2**24)]


class TensorSpec(Settings):
    """One named input or output; `shape` is of one row."""

    name: _Name
    datatype: Datatype
    shape: Annotated[tuple[_Axis, ...], Len(1, 6)]

    @property
    def elements(self) -> int:
        """Numbers in one row."""
        return prod(self.shape)


class Task(Settings):
    """What every model of the federation answers; the hash travels in each header."""

    kind: Literal["multiclass"]
    classes: Annotated[tuple[_Name, ...], Len(2, 65536)]
    inputs: Annotated[tuple[TensorSpec, ...], Len(1, 16)]
    output: _Name = "probabilities"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, names in (("classes", self.classes), ("inputs", [i.name for i in self.inputs])):
            if len(set(names)) != len(names):
                msg = f"{what}: two have the same name; give each its own"
                raise ValueError(msg)
        return self

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the task's canonical JSON: 32 bytes."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(b"fi_stream task v1\0" + canonical.encode()).digest()
