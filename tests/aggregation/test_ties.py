"""A tie is broken by a fixed function of the query: not the first class, not chance."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fi_stream.aggregation.ties import labels_of

SMALL_SCORES = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=classes, max_size=classes),
        min_size=1,
        max_size=12,
    )
)


def digest(n: int) -> bytes:
    return hashlib.sha256(n.to_bytes(8, "big")).digest()


def test_without_a_tie_the_best_class_wins() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [-3.0, -2.0, -1.0], [5.0, 0.0, 0.0]])
    assert_array_equal(labels_of(scores, [digest(0)], [3]), [1, 2, 0])


@given(SMALL_SCORES)
def test_only_best_classes_are_picked(rows: list[list[float]]) -> None:
    scores = np.array(rows)
    labels = labels_of(scores, [digest(7)], [len(rows)])
    assert_array_equal(scores[np.arange(len(rows)), labels], scores.max(axis=1))


def test_every_tied_class_is_picked_about_as_often_over_many_queries() -> None:
    scores = np.tile([0.0, 1.0, 1.0, 0.5, 1.0], (3000, 1))
    labels = labels_of(scores, [digest(n) for n in range(3000)], [1] * 3000)
    counts = Counter(labels.tolist())
    assert set(counts) == {1, 2, 4}
    assert all(850 < count < 1150 for count in counts.values())


def test_every_tied_class_is_picked_about_as_often_over_the_rows_of_one_query() -> None:
    labels = labels_of(np.ones((1000, 2)), [digest(1)], [1000])
    assert 400 < int(labels.sum()) < 600


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_a_query_has_the_same_labels_alone_and_among_others(
    sizes: list[int], data: st.DataObject
) -> None:
    total = sum(sizes)
    row = st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4)
    scores = np.array(data.draw(st.lists(row, min_size=total, max_size=total)))
    digests = [digest(n) for n in range(len(sizes))]
    starts = np.cumsum([0, *sizes])[:-1]
    alone = [
        labels_of(scores[start : start + size], [name], [size])
        for start, size, name in zip(starts, sizes, digests, strict=True)
    ]
    assert_array_equal(labels_of(scores, digests, sizes), np.concatenate(alone))


def test_the_draw_is_fixed_for_ever() -> None:
    """Another draw would give a replay of last week's topics other results."""
    labels = labels_of(np.ones((8, 10)), [digest(1), digest(2)], [4, 4])
    assert labels.tolist() == [7, 5, 9, 0, 4, 6, 7, 2]
