"""Our logarithm and exponential are as good as the machine's own."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.aggregation import portable


@given(st.floats(min_value=5e-324, max_value=1.7e308))
def test_log_is_within_two_units_in_the_last_place(x: float) -> None:
    expected = math.log(x)
    assert abs(portable.log(np.array([x]))[0] - expected) <= 2 * math.ulp(expected)


@given(st.floats(min_value=-744.0, max_value=700.0))
def test_exp_is_within_two_units_in_the_last_place(x: float) -> None:
    expected = math.exp(x)
    assert abs(portable.exp(np.array([x]))[0] - expected) <= 2 * math.ulp(expected)


def test_what_is_certain_is_exact() -> None:
    assert portable.log(np.array([1.0]))[0] == 0.0
    assert portable.exp(np.array([0.0, -1e4, -1e308])).tolist() == [1.0, 0.0, 0.0]
