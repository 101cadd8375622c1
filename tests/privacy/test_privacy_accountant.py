from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.privacy.accountant import Charge, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

costs = st.floats(min_value=0, max_value=1e9, exclude_min=True)


@given(costs)
def test_a_charge_is_never_below_its_cost_as_written(cost: float) -> None:
    charge = Charge.at_least(Unit.NANO_EPSILON, cost)
    assert Fraction(charge.amount, 10**9) >= Fraction(repr(cost))
    assert Fraction(charge.amount - 1, 10**9) < Fraction(repr(cost))


@given(costs)
def test_a_limit_is_never_above_what_was_written(limit: float) -> None:
    charge = Charge.at_most(Unit.NANO_RHO, limit)
    assert Fraction(charge.amount, 10**9) <= Fraction(repr(limit))


def test_three_tenths_pay_for_three_answers_of_one_tenth() -> None:
    answer = Charge.at_least(Unit.NANO_EPSILON, 0.1)
    assert answer.times(3) == Charge.at_most(Unit.NANO_EPSILON, 0.3)


def test_a_cost_too_small_to_see_still_costs_one_unit() -> None:
    tiny = Charge.at_least(Unit.NANO_EPSILON, 1e-300)
    assert tiny.amount == 1
    assert tiny.times(1_000_000).value == 0.001


@pytest.mark.parametrize("cost", [-1.0, -1e-300, 0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("read", [Charge.at_least, Charge.at_most])
def test_what_is_no_cost_is_refused_with_advice(
    cost: float, read: Callable[[Unit, float], Charge]
) -> None:
    with pytest.raises(ConfigError, match=r"positive, finite.*\[privacy\]"):
        read(Unit.NANO_EPSILON, cost)


@pytest.mark.parametrize("amount", [-1, 0.5, math.nan, True])
def test_a_charge_is_a_whole_number_of_units(amount: Any) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        Charge(Unit.NANO_RHO, amount)
