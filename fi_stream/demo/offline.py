"""What the demo's models say without a federation: each alone, and all together without noise."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.caps import capped_sizes
from fi_stream.aggregation.evaluate import Gathered, evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.demo.model import Network


def predictions(networks: Sequence[Network], images: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each model says about each image: [participants, images, classes]."""
    return np.stack([network.probabilities(images) for network in networks]).astype(np.float64)


def together(
    said: NDArray[np.float64], rule: str, examples: Sequence[int] = ()
) -> NDArray[np.int64]:
    """The labels that a federation without noise would decide: [images].

    Args:
        said: [participants, images, classes], of `predictions`.
        rule: the aggregation rule.
        examples: how many each participant was trained on, for rules that weigh by it.
    """
    believed = capped_sizes(np.array(examples, dtype=np.float64)).tolist() if examples else []
    sizes = {f"p{member}": size for member, size in enumerate(believed)}
    queries = [
        Gathered(
            digest=hashlib.sha256(number.to_bytes(8, "little")).digest(),
            rule=rule,
            answers={f"p{member}": row[np.newaxis] for member, row in enumerate(rows)},
            sizes=sizes,
        )
        for number, rows in enumerate(said.swapaxes(0, 1))
    ]
    return np.concatenate([decision.labels for decision in evaluate(queries)])


def accuracy(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of labels that are right."""
    return float(np.mean(labels == truth))
