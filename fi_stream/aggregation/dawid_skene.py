"""How accurate each participant is, estimated from what they all say, without the true labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ITERATIONS = 50
_CHANGE = 1e-4
_PSEUDO = 1.0
"""How many rows each participant is taken to have answered already: half of them right."""


@dataclass(frozen=True, slots=True, eq=False)
class Believed:
    """What the labels of all participants make likely.

    `truth` is [rows, classes]: how likely each class is to be the right one. `accuracy` is
    [participants]: how often each is expected to be right; NaN for one that did not answer.
    """

    truth: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def dawid_skene(labels: NDArray[np.int64], classes: int) -> Believed:
    """Estimate truth and accuracy in turn, until they agree (EM).

    Each participant takes class t for class l with a probability of its own, independently of the
    others given t. Where that is false it is fooled: participants that agree to lie are believed
    if they are the most.

    Args:
        labels: [participants, rows] class indices; -1 where a participant did not answer.
        classes: how many there are.

    Source: Dawid, Skene, Maximum likelihood estimation of observer error-rates using the EM
    algorithm (Applied Statistics, 1979).
    """
    said = labels[..., np.newaxis] == np.arange(classes)
    votes = said.sum(axis=0) + 1.0 / classes
    truth = votes / votes.sum(axis=1, keepdims=True)
    for _ in range(_ITERATIONS):
        before = truth
        truth = _expected(said, truth)
        if np.abs(truth - before).max(initial=0.0) < _CHANGE:
            break
    answered = said.sum(axis=(1, 2))
    right = np.einsum("pnc,nc->p", said, truth)
    some = answered > 0
    return Believed(truth, np.where(some, right / np.where(some, answered, 1), np.nan))


def _expected(said: NDArray[np.bool_], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely each class is, by the confusions that the last truth implies: [rows, classes]."""
    classes = truth.shape[1]
    prior = truth.mean(axis=0) if truth.shape[0] else np.full(classes, 1.0 / classes)
    # confusion[p, t, l]: participant p says l where t is right
    counts = np.einsum("nt,pnl->ptl", truth, said, optimize=True)
    guess = _PSEUDO * (0.5 * np.eye(classes) + 0.5 / classes)
    confusion = counts + guess
    confusion /= confusion.sum(axis=2, keepdims=True)
    logs = np.log(np.maximum(prior, 1e-12)) + np.einsum(
        "pnl,ptl->nt", said, np.log(confusion), optimize=True
    )
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
