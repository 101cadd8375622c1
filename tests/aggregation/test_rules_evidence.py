"""Rules that need more than predictions: their numbers, and the laws that every rule keeps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.competence import (
    DENSITY_CAP,
    Standard,
    density_standing,
    density_weights,
    energy,
    energy_weights,
)
from fi_stream.aggregation.evaluate import normalised
from fi_stream.aggregation.evidence import NAMES, WEIGHTED, Evidence, scores, weights
from fi_stream.aggregation.rules import RULES
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.aggregation.windows import Windows
from fi_stream.errors import ConfigError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rules.json").read_text("utf-8"))
EXPECTED = VECTORS["rules"]
PREDICTIONS = np.array(VECTORS["probabilities"])
SIZES = np.array(VECTORS["training_sizes"], dtype=np.float64)[:, np.newaxis]


def evidence_for(rule: str) -> Evidence:
    standing = spectral_weights(confidences(PREDICTIONS))[:, np.newaxis]
    ratio = np.array(VECTORS["log_density_ratio"])
    return Evidence(
        PREDICTIONS,
        sizes=SIZES,
        own=density_weights(ratio) if rule == "competence_density" else None,
        standing=standing if rule in {"spectral", "hybrid"} else None,
    )


@pytest.mark.parametrize("rule", sorted(set(EXPECTED) - {"hard"}))
def test_a_rule_gives_the_expected_probabilities(rule: str) -> None:
    found = normalised(scores(rule, evidence_for(rule)))
    tolerance = EXPECTED[rule].get("tolerance", 1e-14)
    assert_allclose(found, EXPECTED[rule]["probabilities"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", ["entropy", "consensus"])
def test_a_rule_gives_the_expected_weights(rule: str) -> None:
    assert_allclose(weights(rule, evidence_for(rule)), EXPECTED[rule]["weights"], atol=1e-15)


def test_the_spectral_weights_are_the_expected_and_the_same_bits_on_every_machine() -> None:
    found = spectral_weights(confidences(PREDICTIONS))
    assert_allclose(found, EXPECTED["spectral"]["weights"], rtol=0, atol=1e-14)
    k = np.arange(6 * 50 * 7, dtype=np.float64).reshape(6, 50, 7)
    raw = (k * 7919 + 13) % 1009 + 1
    window = confidences(raw / np.add.accumulate(raw, axis=-1)[..., -1:])
    bits = hashlib.sha256(spectral_weights(window).astype("<f8").tobytes()).hexdigest()
    assert bits[:16] == "14834fdc300b2337"


def test_every_expected_rule_is_there() -> None:
    assert set(EXPECTED) <= set(NAMES)
    assert set(NAMES) == set(RULES) | set(WEIGHTED)


shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(2, 6))


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    """Answers with weights of which some, or all, are 0."""
    k, rows, classes = draw(shapes)
    raw = draw(arrays(np.float64, (k, rows, classes), elements=st.floats(0.0, 1.0)))
    raw = raw + (raw.sum(axis=-1, keepdims=True) < 1e-3)
    some = st.one_of(st.just(0.0), st.floats(0.0, 1e6))
    drawn = [draw(arrays(np.float64, (k, rows), elements=some)) for _ in range(3)]
    return Evidence(raw / raw.sum(axis=-1, keepdims=True), *drawn)


def of(one: Evidence, participants: list[int], classes: list[int]) -> Evidence:
    parts = (one.sizes, one.own, one.standing)
    rest = (None if part is None else part[participants] for part in parts)
    return Evidence(one.predictions[participants][:, :, classes], *rest)


every_weighted = pytest.mark.parametrize("rule", sorted(WEIGHTED))


@every_weighted
@given(one=evidence(), data=st.data())
def test_order_of_participants_and_of_classes_changes_no_bit(
    rule: str, one: Evidence, data: st.DataObject
) -> None:
    k, _, c = one.predictions.shape
    participants = list(data.draw(st.permutations(range(k))))
    classes = list(data.draw(st.permutations(range(c))))
    found = scores(rule, of(one, participants, classes))
    assert_array_equal(found, scores(rule, one)[:, classes])


@every_weighted
@given(one=evidence())
def test_scores_are_finite_and_become_probabilities_also_of_zero_weights(
    rule: str, one: Evidence
) -> None:
    found = scores(rule, one)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert_allclose(normalised(found).sum(axis=1), 1.0, rtol=1e-12)


@every_weighted
@given(one=evidence())
def test_weights_alone_make_the_scores(rule: str, one: Evidence) -> None:
    expected = np.einsum("prc,pr->rc", one.predictions, weights(rule, one))
    assert_allclose(scores(rule, one), expected, rtol=1e-9, atol=1e-12)


def test_what_nobody_gave_counts_as_one() -> None:
    bare = Evidence(PREDICTIONS)
    for rule in ("spectral", "competence_energy", "tta_js"):
        assert_array_equal(scores(rule, bare), scores("soft", bare))
    assert_array_equal(scores("hybrid", bare), scores("consensus", bare))
    assert_array_equal(scores("competence_entropy", bare), scores("entropy", bare))


def test_a_rule_without_weights_is_refused_when_they_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="did you mean 'competence_entropy'"):
        weights("competence_entropi", Evidence(PREDICTIONS))
    with pytest.raises(ConfigError, match="no rule 'median' that weighs predictions"):
        weights("median", Evidence(PREDICTIONS))


class TestSpectral:
    @given(
        window=st.tuples(st.integers(1, 6), st.integers(0, 30)).flatmap(
            lambda shape: arrays(
                np.float64, shape, elements=st.one_of(st.just(np.nan), st.floats(0.0, 1.0))
            )
        ),
        data=st.data(),
    )
    def test_weights_are_shares_in_any_order_of_participants(
        self, window: np.ndarray, data: st.DataObject
    ) -> None:
        found = spectral_weights(window)
        assert (found >= 0).all()
        assert_allclose(found.sum(), 1.0)
        order = list(data.draw(st.permutations(range(len(window)))))
        assert_array_equal(spectral_weights(window[order]), found[order])

    @given(seed=st.integers(0, 2**32), k=st.integers(2, 12))
    def test_they_are_the_top_eigenvector_that_others_find(self, seed: int, k: int) -> None:
        rng = np.random.default_rng(seed)
        common = rng.random(200)
        window = np.clip(common * rng.random((k, 1)) + 0.3 * rng.random((k, 200)), 0, 1)
        values, vectors = np.linalg.eigh(np.cov(window))
        expected = np.abs(vectors[:, -1]) / np.abs(vectors[:, -1]).sum()
        if values[-2] < 0.99 * values[-1]:
            assert_allclose(spectral_weights(window), expected, atol=1e-6)

    def test_a_window_without_variance_gives_equal_weights(self) -> None:
        assert_array_equal(spectral_weights(np.full((4, 9), 0.7)), [0.25] * 4)
        assert_array_equal(spectral_weights(np.full((2, 0), 0.7)), [0.5] * 2)


class TestWindows:
    def test_a_block_learns_from_what_was_before_it_and_from_no_more_than_the_window(self) -> None:
        windows = Windows(length=30, warm=20, block=10)
        found = list(windows.over(55))
        assert [past for _, past in found[:2]] == [None, None]
        assert found[2] == (slice(20, 30), slice(0, 20))
        assert found[5] == (slice(50, 55), slice(20, 50))

    @given(rows=st.integers(0, 300), more=st.integers(0, 300))
    def test_more_rows_change_nothing_for_the_blocks_that_were_whole(
        self, rows: int, more: int
    ) -> None:
        windows = Windows(length=40, warm=20, block=7)
        whole = rows // 7
        longer = list(windows.over(rows + more))
        assert longer[:whole] == list(windows.over(rows))[:whole]
        covered = [row for block, _ in longer for row in range(rows + more)[block]]
        assert covered == list(range(rows + more))


class TestCompetence:
    def test_energy_is_the_logsumexp_of_logits_of_any_scale(self) -> None:
        logits = np.array([[1.0, 2.0, 3.0], [1e5, 0.0, -1e5]])
        assert_allclose(energy(logits), [np.log(np.exp(logits[0]).sum()), 1e5])

    def test_energy_weights_are_standardised_and_clipped(self) -> None:
        held_out = Standard.of(np.array([1.0, 3.0]))
        found = energy_weights(np.array([2.0, 3.0, 100.0, -100.0]), held_out)
        assert_allclose(found, np.exp([0.0, 0.5, 2.0, -2.0]))
        assert_array_equal(energy_weights(np.array([7.0]), Standard(1.0, 0.0)), [1.0])

    def test_a_density_ratio_is_believed_only_so_far(self) -> None:
        assert_allclose(density_weights(np.array([-9.0, 0.0, 1.0, 9.0])), np.exp([-4, 0, 1, 4]))

    def test_always_claiming_the_most_gains_nothing(self) -> None:
        rng = np.random.default_rng(1)
        past = np.stack([density_weights(rng.normal(0, 1, 400)), np.full(400, DENSITY_CAP)])
        assert_allclose(DENSITY_CAP * density_standing(past)[1], 1.0)

    def test_who_never_answered_stands_at_one(self) -> None:
        past = np.array([[np.nan, np.nan], [2.0, np.nan]])
        assert_array_equal(density_standing(past), [1.0, 0.5])
        assert_array_equal(density_standing(np.zeros((2, 0))), [1.0, 1.0])
