"""The gate: a participant counts only if its labels have to do with those of its peers.

Whoever answers at random, or always the same, is independent of everybody, however sure it is and
however much data it claims. Colluding participants depend on each other: against as many as the
honest ones the gate does not help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation import portable
from fi_stream.aggregation.stacks import over_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

FROM_QUERIES = 200
"""How many rows two participants must both have answered before they are compared."""

_NORMAL = 3.090232306167813
"""Above so many standard deviations lies 0.001 of a normal distribution."""

_EXPECTED = 5
"""How many rows a cell of a table should hold by chance: with fewer, G is not chi-square."""


def gate(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which participants count.

    Args:
        labels: [participants, past rows] class indices; -1 where a participant did not answer.

    Returns:
        [participants]: whether each depends on at least half of its peers. Who has too few rows in
        common with a peer passes as dependent on it. Where nobody would be left, all count.
    """
    peers = dependent(labels)
    np.fill_diagonal(peers, val=False)
    kept: NDArray[np.bool_] = 2 * peers.sum(axis=1) >= labels.shape[0] - 1
    return kept if kept.any() else np.ones_like(kept)


def dependent(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the labels of each two participants depend on each other: G-test at p < 0.001.

    G = 2 sum of O log(O / E) over the table of two participants' labels. Rare labels are pooled
    until a cell is expected to hold five rows, so that G is distributed as chi-square; its critical
    value is that of Wilson and Hilferty, which is a little too high for tables of two or three
    labels.

    Args:
        labels: [participants, past rows] class indices; -1 where a participant did not answer.

    Returns:
        [participants, participants], symmetric; True where fewer than 200 rows are in common.

    Source: Woolf, The log likelihood ratio test (Annals of Human Genetics, 1957); Wilson, Hilferty,
    The distribution of chi-square (PNAS 1931).
    """
    tables = _tables(labels)
    participants, _, pools, _ = tables.shape
    common = tables.sum(axis=(2, 3))
    left, right = tables.sum(axis=3), tables.sum(axis=2)
    product = left[..., np.newaxis] * right[..., np.newaxis, :]
    some = tables > 0
    ratio = np.where(some, tables, 1.0) * common[..., np.newaxis, np.newaxis]
    terms = tables * portable.log(np.where(some, ratio / np.where(some, product, 1.0), 1.0))
    statistic = 2 * over_classes(terms.reshape(participants, participants, pools * pools))
    freedom = ((left > 0).sum(axis=2) - 1) * ((right > 0).sum(axis=2) - 1)
    return np.asarray((common < FROM_QUERIES) | (statistic > _critical(freedom)), dtype=np.bool_)


def _critical(freedom: NDArray[np.int64]) -> NDArray[np.float64]:
    """What chi-square exceeds with probability 0.001; infinite where nothing is free to vary."""
    some = np.maximum(freedom, 1)
    spread = 2.0 / (9 * some)
    root = 1 - spread + _NORMAL * np.sqrt(spread)
    return np.where(freedom > 0, some * root * root * root, np.inf)


def _tables(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often two say this and that: [participants, participants, pools, pools].

    Counted one participant at a time: a product of matrices would share busy cores among threads
    of its own, and take many times as long.
    """
    said = np.stack([_pools(one) for one in labels])
    participants, most = said.shape[0], int(said.max(initial=0)) + 1
    place = np.arange(participants)[:, np.newaxis] * most * most
    tables = np.empty((participants, participants * most * most))
    for table, own in zip(tables, said, strict=True):
        both = (own >= 0) & (said >= 0)
        cells = place + own * most + said
        table[:] = np.bincount(cells[both], minlength=table.size)
    return tables.reshape(participants, participants, most, most)


def _pools(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pool of each row's label, -1 where there is none: [rows].

    Labels are pooled from the rarest on, and among equally rare ones from that which came first, so
    that it does not matter how classes are numbered.
    """
    answered = labels[labels >= 0]
    if not answered.size:
        return np.full_like(labels, -1)
    classes, first, counts = np.unique(answered, return_index=True, return_counts=True)
    enough = np.sqrt(_EXPECTED * answered.size)
    pool_of = np.full(int(classes.max()) + 1, -1)
    pool, held, left = 0, 0, int(answered.size)
    for at in np.lexsort((first, counts)):
        pool_of[classes[at]] = pool
        held, left = held + int(counts[at]), left - int(counts[at])
        if held >= enough and left >= enough:
            pool, held = pool + 1, 0
    return np.where(labels >= 0, pool_of[np.maximum(labels, 0)], -1)
