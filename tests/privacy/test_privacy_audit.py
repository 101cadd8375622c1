"""The distinguishing game's arithmetic: bounds that hold, and faults that it must find."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from faulty import CLASSES, FAULTS, NeverRounded, Reused, honest_gaussian, honest_label

from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.binomial import lower_bound, upper_bound
from fi_stream.privacy.calibration import epsilon_of
from fi_stream.privacy.distinguishing import ALPHA, Claim, epsilon_at_least, judge
from fi_stream.privacy.guesses import Played, neighbours

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fi_stream.privacy.distinguishing import Verdict
    from fi_stream.privacy.mechanisms import NoiseMechanism

ROWS = 12_000


def rho_epsilon(rho: float) -> float:
    return epsilon_of(Charge.at_most(Unit.NANO_RHO, max(rho, 1e-9)), 1e-6)


LABEL_CLAIM = Claim(2.0, 0.0)
GAUSSIAN_CLAIM = Claim(2.0, 1e-6, honest_gaussian().cost.value, rho_epsilon)


def play(mechanism: NoiseMechanism, seed: int = 0) -> Played:
    worlds = np.random.default_rng(seed).integers(0, 2, ROWS).astype(bool)
    predictions = neighbours(CLASSES)
    released = [
        mechanism.release(predictions[part.astype(int)]) for part in np.array_split(worlds, 40)
    ]
    values = np.concatenate([each.values for each in released])
    return Played(worlds, predictions, values, released[0].scale)


def first(game: Callable[[], Verdict], right: Callable[[Verdict], bool]) -> Verdict:
    """The first of three games that ends rightly, or the last.

    A good mechanism is blamed in one of 30,000 games, and a threshold that was badly chosen lets
    too little be seen in one of hundreds.
    """
    verdict = game()
    for _ in range(2):
        if right(verdict):
            break
        verdict = game()
    return verdict


def claim_of(mechanism: Any) -> Claim:
    return LABEL_CLAIM if mechanism is honest_label else GAUSSIAN_CLAIM


@pytest.mark.parametrize(
    ("hits", "trials", "alpha", "low", "high"),
    [  # beta.ppf of scipy 1.15
        (0, 10, 0.025, 0.0, 0.3084971078187607),
        (3, 10, 0.025, 0.06673951117773447, 0.6524528500599973),
        (10, 10, 0.025, 0.6915028921812392, 1.0),
        (50, 1000, 0.0005, 0.030238692036749303, 0.0767291623343273),
        (9990, 10000, 0.0005, 0.9974763699815818, 0.9997300116177676),
    ],
)
def test_bounds_are_clopper_and_pearson_s(
    hits: int, trials: int, alpha: float, low: float, high: float
) -> None:
    assert lower_bound(hits, trials, alpha) == pytest.approx(low, rel=1e-9)
    assert upper_bound(hits, trials, alpha) == pytest.approx(high, rel=1e-9)


@pytest.mark.parametrize("mechanism", [honest_label, honest_gaussian])
def test_an_honest_mechanism_is_never_blamed_and_is_seen_to_give_something(
    mechanism: Callable[[], NoiseMechanism],
) -> None:
    honest = mechanism()
    for seed in range(2):
        verdict = first(
            lambda seed=seed: judge(play(honest, seed), claim_of(mechanism)),
            lambda verdict: 0.1 * 2.0 < verdict.epsilon <= 2.0,
        )
        assert verdict.holds
        assert 0.1 * 2.0 < verdict.epsilon <= 2.0
        assert verdict.ceiling > 2 * 2.0
        assert verdict.alpha == ALPHA


@pytest.mark.parametrize(("mechanism", "fault", "found"), FAULTS)
def test_a_planted_fault_is_found(
    mechanism: Callable[[], NoiseMechanism], fault: Callable[[Any], Any], found: str
) -> None:
    verdict = first(
        lambda: judge(play(fault(mechanism())), claim_of(mechanism)),
        lambda verdict: not verdict.holds,
    )
    assert not verdict.holds
    assert found in verdict.tried.looks_at


@pytest.mark.parametrize("block", [1, 7, 500, 2_000])
@pytest.mark.parametrize("mechanism", [honest_label, honest_gaussian])
def test_noise_that_is_used_twice_is_found_however_far_apart(
    mechanism: Callable[[], NoiseMechanism], block: int
) -> None:
    reused = Reused(mechanism())
    reused.block = block
    verdict = judge(play(reused), claim_of(mechanism))
    assert not verdict.holds
    assert f"answers {block} rows apart" in verdict.tried.looks_at


def test_what_is_below_the_grid_is_found_in_floats_between_0_and_1() -> None:
    faulty = NeverRounded(honest_gaussian())
    faulty.in_steps = False
    verdict = judge(play(faulty), GAUSSIAN_CLAIM)
    assert not verdict.holds
    assert "the last digits" in verdict.tried.looks_at


def test_a_test_that_is_always_right_has_no_finite_epsilon_but_its_bound_has() -> None:
    worlds = np.tile([False, True], 5_000)
    exact = Played(worlds, neighbours(10), worlds.astype(np.int64), None)
    verdict = judge(exact, LABEL_CLAIM)
    assert verdict.epsilon == pytest.approx(verdict.ceiling, rel=0.02)
    assert math.isfinite(verdict.epsilon)
    assert epsilon_at_least(1.0, 0.0, GAUSSIAN_CLAIM) == math.inf
    assert epsilon_at_least(0.3, 0.3, LABEL_CLAIM) == 0


def test_the_two_predictions_are_a_worst_case_and_do_not_lie_on_the_grid() -> None:
    first, second = neighbours(10)
    for each in (first, second):
        assert each.min() >= 0
        assert each.sum() == pytest.approx(1)
    assert np.linalg.norm(first - second) == pytest.approx(math.sqrt(2), rel=1e-3)
    off = (first * 2**16) % 1
    assert 0.1 < off[0] < 0.9 or 0.1 < off[1] < 0.9


def test_a_claim_allows_what_it_says() -> None:
    assert LABEL_CLAIM.allows(0.1) == pytest.approx(0.1 * math.exp(2))
    assert LABEL_CLAIM.allows(0.9) == pytest.approx(1 - 0.1 / math.exp(2))
    assert (LABEL_CLAIM.allows(0), LABEL_CLAIM.allows(1)) == (0, 1)
    for wrong in (0.001, 0.1, 0.5, 0.9):
        right = GAUSSIAN_CLAIM.allows(wrong)
        assert epsilon_at_least(right, wrong, GAUSSIAN_CLAIM) == pytest.approx(2.0, rel=1e-3)
    verdict = judge(play(honest_label()), LABEL_CLAIM)
    assert (verdict.curve[0], verdict.curve[-1]) == ((0, 0), (1, 1))
    assert list(verdict.curve) == sorted(verdict.curve)
