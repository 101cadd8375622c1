"""Caps bound what one participant can say, and change nothing for who is within them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.caps import capped_sizes, confidence_cap, weight_cap

some_weights = st.tuples(st.integers(1, 7), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e6)))
)


def test_ten_times_the_data_is_believed_as_twice_the_median() -> None:
    assert capped_sizes(np.array([100.0, 120.0, 80.0, 1000.0, 90.0])).tolist() == [
        *(100.0, 120.0, 80.0),
        *(200.0, 90.0),
    ]


@given(weights=some_weights, share=st.floats(0.01, 1.0))
def test_nobody_has_more_than_the_share_where_that_can_be(
    weights: np.ndarray, share: float
) -> None:
    found = weight_cap(weights, share)
    assert (found <= weights).all()
    assert ((found > 0) == (weights > 0)).all()
    for before, after in zip(weights.T, found.T, strict=True):
        some = after[before > 0]
        if some.size * share > 1.01:
            assert some.max() <= share * some.sum() * (1 + 1e-9)
        elif some.size and some.size * share < 0.99:
            assert_allclose(some, some.max())


@given(weights=some_weights, data=st.data())
def test_a_cap_does_not_depend_on_order_and_leaves_who_is_within_it(
    weights: np.ndarray, data: st.DataObject
) -> None:
    order = list(data.draw(st.permutations(range(len(weights)))))
    found = weight_cap(weights, 0.4)
    assert_array_equal(weight_cap(weights[order], 0.4), found[order])
    for before, after in zip(weights.T, found.T, strict=True):
        if before.max() <= 0.4 * before.sum() * (1 - 1e-9):
            assert_array_equal(after, before)


def test_the_bound_is_the_largest_that_keeps_the_share() -> None:
    found = weight_cap(np.array([[10.0], [1.0], [1.0], [1.0]]), 0.4)
    assert_allclose(found[:, 0], [2.0, 1.0, 1.0, 1.0])


@given(
    raw=arrays(np.float64, (3, 2, 4), elements=st.floats(0.0, 1.0)),
    most=st.floats(0.3, 1.0),
)
def test_no_prediction_is_surer_than_the_cap_and_all_stay_predictions(
    raw: np.ndarray, most: float
) -> None:
    raw = raw + (raw.sum(axis=-1, keepdims=True) < 1e-3)
    predictions = raw / raw.sum(axis=-1, keepdims=True)
    found = confidence_cap(predictions, most)
    assert found.max() <= most + 1e-12
    assert (found >= 0).all()
    assert_allclose(found.sum(axis=-1), 1.0)
    within = predictions.max(axis=-1) <= most
    assert_allclose(found[within], predictions[within], atol=1e-15)
    assert_array_equal(
        found.argmax(axis=-1), np.where(within, predictions.argmax(axis=-1), found.argmax(axis=-1))
    )
    best = np.take_along_axis(found, predictions.argmax(axis=-1)[..., np.newaxis], axis=-1)
    assert_array_equal(best[..., 0], found.max(axis=-1))
