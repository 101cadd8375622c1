"""A participant finds how dense its own data is where a query is, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fi_stream.aggregation.competence import density_weights
from fi_stream.aggregation.density import FROM_QUERIES, Past, fit, sample
from fi_stream.aggregation.evidence import Evidence, scores


@pytest.mark.parametrize("rows", [(3000, 3000), (3000, 1000), (1000, 3000)])
def test_the_ratio_of_two_normal_distributions_is_found_whatever_their_numbers(
    rows: tuple[int, int],
) -> None:
    """Of N(0, 1) to N(1, 1): log ratio 0.5 - x."""
    rng = np.random.default_rng(1)
    found = fit(rng.normal(0, 1, (rows[0], 1)), rng.normal(1, 1, (rows[1], 1)), strength=1e-4)
    at = np.linspace(-1, 2, 7)[:, np.newaxis]
    assert_allclose(found.log_ratio(at), 0.5 - at[:, 0], atol=0.3)


def test_it_is_the_minimum_that_scikit_learn_finds() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    training, queries = rng.normal(0, 1, (120, 4)), rng.normal(0.5, 1, (60, 4))
    found = fit(training, queries, strength=0.05)
    both = (np.concatenate([training, queries]) - found.centre) / found.scale
    # its loss is C times a weighted sum, ours a mean of halves: C = 1 / strength
    weight = np.where(np.arange(180) < 120, 0.5 / 120, 0.5 / 60)
    theirs = linear_model.LogisticRegression(C=1 / 0.05, tol=1e-10, max_iter=1000)
    theirs.fit(both, np.arange(180) < 120, sample_weight=weight)
    assert_allclose(found.coefficients, theirs.coef_[0], atol=1e-5)
    assert_allclose(found.intercept, theirs.intercept_[0], atol=1e-5)


@given(
    seed=st.integers(0, 2**32),
    training=st.integers(1, 30),
    queries=st.integers(1, 30),
    features=st.integers(1, 40),
    apart=st.sampled_from([0.0, 1.0, 1e3]),
)
@settings(max_examples=40, deadline=None)
def test_any_features_give_a_finite_ratio(
    seed: int, training: int, queries: int, features: int, apart: float
) -> None:
    """Few rows, many features, constant ones, and data that can be told apart without a fault."""
    rng = np.random.default_rng(seed)
    own, asked = rng.normal(0, 1, (training, features)), rng.normal(apart, 1, (queries, features))
    own[:, 0] = asked[:, 0] = 3.0
    found = fit(own, asked)
    assert np.isfinite(found.log_ratio(np.concatenate([own, asked]))).all()


def test_nothing_is_learnt_before_there_are_enough_queries_and_no_more_is_kept_than_allowed() -> (
    None
):
    rng = np.random.default_rng(3)
    training, past = rng.normal(0, 1, (50, 2)), Past(most=150)
    past.asked(rng.normal(0, 1, (FROM_QUERIES - 1, 2)))
    assert past.fit(training) is None
    past.asked(rng.normal(0, 1, (1, 2)))
    assert past.fit(training) is not None
    past.asked(rng.normal(5, 1, (400, 2)))
    assert len(past) == 150
    late = past.fit(training)
    assert late is not None
    # only the last are remembered: all of them were at 5
    assert late.log_ratio(np.array([[5.0, 5.0]]))[0] < late.log_ratio(np.array([[0.0, 0.0]]))[0] - 2


def test_what_is_kept_of_a_query_does_not_change_with_the_callers_array() -> None:
    past, rows = Past(), np.zeros((FROM_QUERIES, 1))
    past.asked(rows)
    rows[:] = 1e9
    found = past.fit(np.zeros((5, 1)))
    assert found is not None
    assert found.centre.tolist() == [0.0]


def test_a_sample_of_training_examples_is_the_same_each_time() -> None:
    training = np.arange(10_000.0)[:, np.newaxis]
    assert sample(training).shape == (2000, 1)
    assert (sample(training) == sample(training)).all()
    assert sample(training[:10]) is not None
    assert len(sample(training[:10])) == 10


def test_participants_that_know_a_part_each_are_better_together_by_their_own_estimates() -> None:
    """Each learnt two of six classes, and is sure of one of them whatever it sees."""
    rng = np.random.default_rng(4)
    places = 4 * rng.normal(0, 1, (6, 5))
    labels = rng.integers(0, 6, 900)
    queries = places[labels] + rng.normal(0, 1, (900, 5))
    predictions, own = np.zeros((3, 900, 6)), np.ones((3, 900))
    for at in range(3):
        known = np.array([2 * at, 2 * at + 1])
        away = np.linalg.norm(queries[:, np.newaxis] - places[known], axis=2)
        predictions[at][np.arange(900), known[away.argmin(axis=1)]] = 1.0
        training = np.repeat(places[known], 60, axis=0) + rng.normal(0, 1, (120, 5))
        past = Past()
        past.asked(queries[:300])
        learnt = past.fit(training)
        assert learnt is not None
        own[at] = density_weights(learnt.log_ratio(queries))
    later = slice(300, None)
    right = {}
    for rule in ("soft", "competence_density"):
        found = scores(rule, Evidence(predictions[:, later], own=own[:, later]))
        right[rule] = (found.argmax(axis=1) == labels[later]).mean()
    assert right["soft"] < 0.5
    assert right["competence_density"] > 0.85
