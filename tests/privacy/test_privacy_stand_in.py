from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.privacy.stand_in import stand_in


@given(rows=st.integers(1, 50), classes=st.integers(2, 1000), query=st.binary(min_size=32))
def test_a_stand_in_is_a_prediction_that_says_nothing(
    rows: int, classes: int, query: bytes
) -> None:
    probabilities = stand_in(rows, classes, query)
    assert probabilities.shape == (rows, classes)
    assert (probabilities >= 0).all()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.ptp(probabilities) <= 1.1e-6
    # One class leads, so that a label is a function of the query and of no order of classes.
    assert ((probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) == 1).all()
    assert np.array_equal(probabilities, stand_in(rows, classes, query))


def test_no_class_gains_from_stand_ins() -> None:
    digests = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(6_000)]
    labels = [int(stand_in(1, 6, digest).argmax()) for digest in digests]
    counts = np.bincount(labels, minlength=6)
    assert abs(counts - 1_000).max() < 150  # five standard deviations
