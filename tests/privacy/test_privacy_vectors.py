"""Published closed forms, kept in vectors/privacy.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fi_stream.federation.policy import Selection
from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.selection import NoisyMax

VECTORS = json.loads((Path(__file__).parent / "vectors" / "privacy.json").read_text("utf-8"))
DRAWS = 40_000


@pytest.mark.parametrize("one", VECTORS["analytic_gaussian"], ids=str)
def test_gaussian_noise_is_the_least_that_is_enough(one: dict[str, float]) -> None:
    steps = 2.0**16
    scale = calibration.gaussian_scale(one["epsilon"], one["delta"], one["l2"] * steps)
    # given to five digits behind the point
    assert scale / steps == pytest.approx(one["sigma"], rel=2e-5)


@pytest.mark.parametrize("one", VECTORS["gaussian_rho"], ids=str)
def test_opendp_accounts_gaussian_noise_as_the_closed_form_does(one: dict[str, float]) -> None:
    accounted = calibration.gaussian(float(one["sigma"])).map(one["l2"])
    assert accounted == pytest.approx(one["rho"], rel=1e-9)


@pytest.mark.parametrize("one", VECTORS["zcdp_bound"], ids=str)
def test_a_total_of_rho_is_shown_no_looser_than_the_bound(one: dict[str, float]) -> None:
    total = Charge.at_least(Unit.NANO_RHO, one["rho"])
    assert one["rho"] < calibration.epsilon_of(total, one["delta"]) <= one["epsilon"]


@pytest.mark.parametrize("one", VECTORS["randomised_response"], ids=str)
def test_randomised_response_keeps_the_truth_as_often_as_the_closed_form(
    one: dict[str, Any],
) -> None:
    keep = calibration.keep_probability(one["epsilon"], one["categories"])
    assert keep == pytest.approx(one["keep"], rel=1e-12)


@pytest.mark.parametrize("one", VECTORS["permute_and_flip"], ids=str)
def test_permute_and_flip_picks_as_often_as_the_closed_form(one: dict[str, Any]) -> None:
    assert one["sensitivity"] == 1
    mechanism = NoisyMax(one["epsilon"], Selection.PERMUTE_AND_FLIP)
    labels = mechanism.labels(np.repeat([one["scores"]], DRAWS, axis=0))
    expected = DRAWS * np.array(one["probabilities"])
    counts = np.bincount(labels, minlength=len(expected))
    assert np.abs(counts - expected).max() < 6 * math.sqrt(DRAWS / 4)
