"""What is noised in place of a prediction that cannot be used (DESIGN 10).

Whether a model fails on a query depends on its weights: who asks could find out about them, exactly
and free of charge, by looking for the inputs at which they overflow. So under noise a model's own
abstain is an answer like any other: a prediction that says nothing, charged and noised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAN = 1e-6


def stand_in(rows: int, classes: int, query: bytes) -> NDArray[np.float64]:
    """Next to uniform probabilities, [rows, classes], each row on the simplex.

    They depend on nothing but the query. Each row leans to one class so little that only a label
    shows it, and to another one in each row and query, so that no class gains.

    Args:
        rows: of the query.
        classes: of the task.
        query: the digest of its event.
    """
    first = int.from_bytes(query[:8], "big") % classes
    labels = (first + np.arange(rows)) % classes
    probabilities = np.full((rows, classes), (1 - _LEAN) / classes)
    probabilities[np.arange(rows), labels] += _LEAN
    return probabilities
