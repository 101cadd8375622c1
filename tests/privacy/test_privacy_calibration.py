from __future__ import annotations

import math

import pytest

from fi_stream.errors import ConfigError
from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit


@pytest.mark.parametrize("epsilon", [0.001, 0.1, 1, 8, 30, 32])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_opendp_never_accounts_randomised_response_above_the_declared_epsilon(
    epsilon: float, classes: int
) -> None:
    dp = calibration.opendp()
    keep = calibration.keep_probability(epsilon, classes)
    assert 1 / classes < keep < 1
    accounted = dp.measurements.make_randomized_response(list(range(classes)), keep).map(1)
    assert epsilon * 0.98 - 0.02 < accounted < epsilon


@pytest.mark.parametrize(
    ("rho", "bound"),
    [
        (0.001, 0.23607880004767995),
        (0.01, 0.7533844377699678),
        (0.1, 2.4507880004767997),
        (1, 8.433844377699677),
        (10, 33.507880004768),
        (5_000, 5_000 + 2 * math.sqrt(5_000 * math.log(1e6))),
    ],
)
def test_a_total_of_rho_is_shown_no_looser_than_the_closed_form(rho: float, bound: float) -> None:
    total = Charge.at_least(Unit.NANO_RHO, rho)
    exact = calibration.epsilon_of(total, 1e-6)
    assert rho < exact <= bound * (1 + 1e-12)
    assert exact <= calibration.running_epsilon(total, 1e-6) <= exact * 1.017


def test_a_total_of_epsilon_is_shown_as_it_is() -> None:
    assert calibration.epsilon_of(Charge(Unit.NANO_EPSILON, 2_400_000_000), 1e-6) == 2.4


def test_a_total_never_shrinks_as_it_grows() -> None:
    totals = [Charge(Unit.NANO_RHO, 10**k) for k in range(0, 16, 3)]
    shown = [calibration.epsilon_of(total, 1e-6) for total in totals]
    assert shown == sorted(shown)
    assert shown[0] > 0


@pytest.mark.parametrize("budget", [0.5, 100.0, 1e5])
def test_a_gaussian_limit_is_the_last_total_within_the_budget(budget: float) -> None:
    limit = calibration.limit_of(budget, 1e-6)
    one_more = Charge(limit.unit, limit.amount + 1)
    assert calibration.epsilon_of(limit, 1e-6) <= budget < calibration.epsilon_of(one_more, 1e-6)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 1e-300, 50.0, math.inf, math.nan])
def test_an_absurd_epsilon_is_refused_with_the_range(epsilon: float) -> None:
    with pytest.raises(ConfigError, match=r"0\.001 to 32"):
        calibration.check_epsilon(epsilon)


@pytest.mark.parametrize("delta", [-1.0, 0.0, 0.5, 1.0, math.inf, math.nan])
def test_an_absurd_delta_is_refused_with_the_range(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"1e-15 to 0\.01"):
        calibration.check_delta(delta)
