"""The label of a row of scores: its best class, or of several that tie one fixed by the query.

Neither the first class nor chance decides: every aggregator, and every replay, picks the same
class, and over many queries all tied classes are picked as often (DESIGN 8.6).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.rules import Scores


def labels_of(scores: Scores, digests: Sequence[bytes], rows: Sequence[int]) -> NDArray[np.int64]:
    """Label the rows of several queries at once.

    Args:
        scores: [rows of all queries one after another, classes], finite.
        digests: the SHA-256 of each query's event, 32 bytes each.
        rows: how many rows each query has; they add up to those of `scores`.

    Returns:
        [rows of all queries] class indices.
    """
    best = scores == scores.max(axis=-1, keepdims=True)
    labels: NDArray[np.int64] = best.argmax(axis=-1)
    tied = np.flatnonzero(best.sum(axis=-1) > 1)
    if tied.size:
        ends = np.cumsum(rows)
        for at in tied.tolist():
            query = int(np.searchsorted(ends, at, side="right"))
            row = at - int(ends[query]) + rows[query]
            candidates = np.flatnonzero(best[at])
            labels[at] = candidates[_draw(digests[query], row) % candidates.size]
    return labels


def _draw(digest: bytes, row: int) -> int:
    """A number below 2^64, fixed by the query and the row."""
    made = hashlib.sha256(b"fi_stream tie v1\0" + digest + row.to_bytes(4, "little"))
    return int.from_bytes(made.digest()[:8], "little")
