"""The gate leaves out who answers at random or always the same, and nobody before it can know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.dependence import FROM_QUERIES, _critical, dependent, gate


def honest(rng: np.random.Generator, participants: int, rows: int, classes: int) -> np.ndarray:
    """Labels of participants that are right three times in five, else anything."""
    truth = rng.integers(0, classes, rows)
    said = rng.integers(0, classes, (participants, rows))
    return np.where(rng.random((participants, rows)) < 0.6, truth, said)


@given(
    seed=st.integers(0, 2**32),
    participants=st.integers(3, 8),
    classes=st.sampled_from([2, 3, 10, 20]),  # with more it needs more queries
)
@settings(max_examples=40, deadline=None)
def test_a_random_and_a_constant_participant_are_left_out_and_the_honest_kept(
    seed: int, participants: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = honest(rng, participants, 600, classes)
    constant = np.full((1, 600), rng.integers(classes))
    random = rng.integers(0, classes, (1, 600))
    kept = gate(np.concatenate([labels, constant, random]))
    assert kept[:participants].all()
    assert not kept[participants]
    if participants > 3:
        assert not kept[-1]


@pytest.mark.parametrize("classes", [2, 5, 10, 100])
def test_of_independent_participants_one_pair_in_a_thousand_seems_dependent(classes: int) -> None:
    rng = np.random.default_rng(classes)
    found = []
    for rows in (200, 1000):
        for _ in range(15):
            shares = rng.dirichlet(np.ones(classes), 12)
            labels = np.stack([rng.choice(classes, rows, p=p) for p in shares])
            found.append(dependent(labels)[np.triu_indices(12, 1)])
    assert np.mean(found) < 0.006


def test_nobody_is_left_out_before_there_are_two_hundred_queries_in_common() -> None:
    rng = np.random.default_rng(2)
    labels = np.concatenate([honest(rng, 3, 400, 4), rng.integers(0, 4, (1, 400))])
    assert gate(labels[:, : FROM_QUERIES - 1]).all()
    assert gate(labels[:, :FROM_QUERIES]).tolist() == [True, True, True, False]
    labels[3, : 400 - FROM_QUERIES + 1] = -1
    assert gate(labels).all()


def test_honest_ones_that_are_too_few_cannot_be_told_from_the_others() -> None:
    rng = np.random.default_rng(5)
    labels = np.concatenate([honest(rng, 2, 600, 5), rng.integers(0, 5, (3, 600))])
    assert gate(labels).all()


def test_where_all_are_independent_all_count() -> None:
    labels = np.random.default_rng(3).integers(0, 4, (5, 300))
    assert gate(labels).all()
    assert gate(labels[:1]).tolist() == [True]
    assert gate(np.full((2, 0), -1)).all()


@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_neither_order_of_participants_nor_names_of_classes_matter(
    data: st.DataObject, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = honest(rng, 4, 250, 5)
    labels[rng.random(labels.shape) < 0.05] = -1
    order = list(data.draw(st.permutations(range(4))))
    names = np.array([*data.draw(st.permutations(range(5))), -1])
    expected = dependent(labels)
    assert_array_equal(dependent(names[labels][order]), expected[np.ix_(order, order)])


def test_the_critical_value_is_that_of_chi_square_or_a_little_more() -> None:
    freedom = np.array([1, 2, 4, 9, 25, 81, 169])
    exact = [10.828, 13.816, 18.467, 27.877, 52.620, 126.083, 231.0]
    found = _critical(freedom)
    assert (found >= np.array(exact) * 0.998).all()
    assert_allclose(found, exact, rtol=0.035)
    assert _critical(np.array([0])).tolist() == [np.inf]
