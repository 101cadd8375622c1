"""What the demo's models say without a federation: each alone, and all together without noise."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.caps import capped_sizes
from fi_stream.aggregation.competence import density_weights
from fi_stream.aggregation.density import FROM_QUERIES, fit
from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.demo.model import INPUT
from fi_stream.roles.ratios import EVERY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.demo.model import Network
    from fi_stream.demo.training import Trained


def predictions(networks: Sequence[Network], images: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each model says about each image: [participants, images, classes]."""
    return np.stack([network.probabilities(images) for network in networks]).astype(np.float64)


def ratios(made: Trained, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """How dense each participant's digits are where an image is: [participants, images].

    As participants learn it while they are asked these images one by one, if they took no time for
    it: from the images before, and none of the first.
    """
    found = np.ones((len(made.networks), len(images)))
    for own, network, training in zip(found, made.networks, made.training, strict=True):
        learnt, asked = (network.features({INPUT: x}).astype(float) for x in (training, images))
        for start in range(FROM_QUERIES, len(images), EVERY):
            ratio, part = fit(learnt, asked[:start]), slice(start, start + EVERY)
            own[part] = density_weights(ratio.log_ratio(asked[part]))
    return found


def together(
    said: NDArray[np.float64],
    rule: str,
    examples: Sequence[int] = (),
    own: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """The labels that a federation without noise would decide: [images].

    Args:
        said: [participants, images, classes], of `predictions`.
        rule: the aggregation rule.
        examples: how many each participant was trained on, for rules that weigh by it.
        own: [participants, images], for rules that read what each computes itself.
    """
    believed = capped_sizes(np.array(examples, dtype=np.float64)).tolist() if examples else []
    sizes = {f"p{member}": size for member, size in enumerate(believed)}
    queries = [
        Gathered(
            digest=hashlib.sha256(number.to_bytes(8, "little")).digest(),
            rule=rule,
            answers={f"p{member}": row[np.newaxis] for member, row in enumerate(rows)},
            sizes=sizes,
            own={}
            if own is None
            else {f"p{member}": one[np.newaxis] for member, one in enumerate(own[:, number])},
        )
        for number, rows in enumerate(said.swapaxes(0, 1))
    ]
    return np.concatenate([decision.labels for decision in evaluate(queries)])


def accuracy(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of labels that are right."""
    return float(np.mean(labels == truth))
