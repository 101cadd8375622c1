"""Rows to ask when a load test is given none: random numbers that fit the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fi_stream.events.tensors import Datatype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.federation.rows import Rows
    from fi_stream.federation.task import Task, TensorSpec

_MOST: Final = 256
_MOST_ELEMENTS: Final = 2**21
_WORD_BYTES: Final = 8


def random_rows(task: Task, seed: int) -> list[Rows]:
    """A pool of rows to be asked in turn, made once so that the sender has little to do.

    Args:
        task: floats are standard normal, integers 0 to 9, booleans even, bytes eight letters.
        seed: the same seed gives the same rows.

    Returns:
        At most 256 mappings of input names to arrays [*input]; fewer when one row is large.
    """
    random = np.random.default_rng(seed)
    elements = sum(spec.elements for spec in task.inputs)
    count = max(1, min(_MOST, _MOST_ELEMENTS // elements))
    return [{spec.name: _random(spec, random) for spec in task.inputs} for _ in range(count)]


def _random(spec: TensorSpec, random: np.random.Generator) -> NDArray[Any]:
    if spec.datatype is Datatype.BYTES:
        letters = random.integers(ord("a"), ord("z") + 1, (spec.elements, _WORD_BYTES), np.uint8)
        words = np.empty(spec.elements, dtype=object)
        words[:] = [word.tobytes() for word in letters]
        return words.reshape(spec.shape)
    wanted = spec.datatype.numpy
    if wanted.kind == "f":
        return random.standard_normal(spec.shape).astype(wanted)
    return random.integers(0, 2 if wanted.kind == "b" else 10, spec.shape).astype(wanted)
