"""Test-time augmentation: the mean over the forms of a query, and how much they differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.augmented import INSTABILITY, rotations, tta_mean, tta_weights
from fi_stream.aggregation.evidence import WEIGHTED

every_distance = pytest.mark.parametrize("rule", sorted(INSTABILITY))


def test_every_distance_is_a_rule() -> None:
    assert {*INSTABILITY, "tta_mean"} == {name for name in WEIGHTED if name.startswith("tta_")}


def test_images_are_turned_by_quarters_and_four_of_them_are_a_whole_turn() -> None:
    images = np.arange(8.0).reshape(2, 2, 2)
    turned = rotations(images)
    assert turned.shape == (4, 2, 2, 2)
    assert_array_equal(turned[0], images)
    assert_array_equal(turned[2], images[:, ::-1, ::-1])


@every_distance
@given(
    raw=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(2, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(0.0, 1.0))
    ),
    data=st.data(),
)
def test_weights_are_at_most_one_and_no_order_of_forms_or_classes_matters(
    rule: str, raw: np.ndarray, data: st.DataObject
) -> None:
    raw = raw + (raw.sum(axis=-1, keepdims=True) < 1e-3)
    predictions = raw / raw.sum(axis=-1, keepdims=True)
    found = tta_weights(predictions, rule)
    assert (found > 0).all()
    assert (found <= 1).all()
    forms = data.draw(st.permutations(range(raw.shape[0])))
    classes = data.draw(st.permutations(range(raw.shape[2])))
    other = tta_weights(predictions[forms][:, :, classes], rule)
    assert_allclose(other, found, rtol=1e-9)


@every_distance
def test_who_says_the_same_of_every_form_has_weight_one_and_who_differs_less(rule: str) -> None:
    steady = np.tile([[0.7, 0.2, 0.1]], (4, 1, 1))
    a_bit = steady + np.array([[[0.1, -0.1, 0.0]]]) * np.array([1, -1, 1, -1])[:, None, None]
    much = np.eye(3)[[0, 1, 2, 0]][:, np.newaxis]
    found = [tta_weights(forms, rule)[0] for forms in (steady, a_bit, much)]
    assert_allclose(found[0], 1.0)
    assert found[0] > found[1] > found[2] > 0


def test_the_four_distances_are_what_their_formulas_say() -> None:
    forms = np.array([[[0.8, 0.2]], [[0.4, 0.6]]])
    mean = np.array([0.6, 0.4])
    assert_allclose(tta_mean(forms), [mean])

    def kl(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q)).sum())

    p, q = forms[:, 0]
    expected = {
        "tta_l2": (np.linalg.norm(p - mean) + np.linalg.norm(q - mean)) / 2,
        "tta_cosine": np.mean(
            [1 - x @ mean / np.linalg.norm(x) / np.linalg.norm(mean) for x in (p, q)]
        ),
        "tta_kl": (kl(p, mean) + kl(q, mean)) / 2,
        "tta_js": np.mean([(kl(x, (x + mean) / 2) + kl(mean, (x + mean) / 2)) / 2 for x in (p, q)]),
    }
    for rule, value in expected.items():
        assert_allclose(tta_weights(forms, rule), np.exp(-value), rtol=1e-12)
