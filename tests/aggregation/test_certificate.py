"""A certificate is the truth: every choice of f contributors is tried, and one more succeeds."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.aggregation.certificate import certify, withstands
from fi_stream.aggregation.competence import DENSITY_CAP
from fi_stream.aggregation.evidence import NAMES, Evidence, scores

CERTIFIED = {
    "hard",
    "soft",
    "entropy",
    "spectral",
    "competence_entropy",
    "competence_energy",
    "competence_density",
    "tta_mean",
    "tta_l2",
    "tta_cosine",
    "tta_kl",
    "tta_js",
}


@st.composite
def answers(draw: st.DrawFn, most: int = 7) -> Evidence:
    """One row of up to seven answers, sure ones and labels among them, and what is known of them.

    Numbers are multiples of 1/8, so that brute force meets ties where they are.
    """
    k, classes = draw(st.integers(1, most)), draw(st.integers(2, 4))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    raw = rng.multinomial(8, rng.dirichlet(np.full(classes, draw(st.sampled_from([0.1, 1.0])))), k)
    towards = draw(st.integers(0, k))
    raw[:towards] = 8 * np.eye(classes, dtype=np.int64)[0]
    sizes = rng.integers(1, 5, (k, 1)).astype(np.float64)
    own = rng.integers(0, 9, (k, 1)) / 8
    standing = rng.integers(0, 9, (k, 1)) / 8
    return Evidence(raw[:, np.newaxis] / 8.0, sizes=sizes, own=own, standing=standing)


def best_of(found: np.ndarray) -> set[int]:
    return set(np.flatnonzero(found[0] >= found[0].max() - 1e-9).tolist())


def can_change(rule: str, evidence: Evidence, liars: tuple[int, ...]) -> bool:
    """Whether these contributors can change the label or reach a tie: each says any one class."""
    before = best_of(scores(rule, evidence))
    classes = evidence.predictions.shape[2]
    for target in range(classes):
        predictions = evidence.predictions.copy()
        predictions[list(liars)] = np.eye(classes)[target]
        own = np.ones(predictions.shape[:2]) if evidence.own is None else evidence.own.copy()
        own[list(liars)] = DENSITY_CAP if rule == "competence_density" else 1.0
        lied = replace(evidence, predictions=predictions, own=own)
        changed = best_of(scores(rule, lied))
        if len(before) > 1 or changed != before:
            return True
    return False


@pytest.mark.parametrize(
    "rule", ["hard", "soft", "entropy", "spectral", "competence_entropy", "tta_js"]
)
@given(evidence=answers())
@settings(max_examples=80)
def test_no_choice_of_so_many_contributors_changes_the_label_and_some_of_one_more_do(
    rule: str, evidence: Evidence
) -> None:
    found = certify(rule, evidence)
    assert found is not None
    f, k = int(found.withstands[0]), len(evidence.predictions)
    assert not any(can_change(rule, evidence, liars) for liars in combinations(range(k), f)) or (
        f == 0
    )
    if f < k:
        assert any(can_change(rule, evidence, liars) for liars in combinations(range(k), f + 1))


@given(evidence=answers(most=5))
@settings(max_examples=40)
def test_a_weight_of_its_own_is_bounded_by_its_cap(evidence: Evidence) -> None:
    found = certify("competence_density", evidence)
    assert found is not None
    f, k = int(found.withstands[0]), len(evidence.predictions)
    if f:
        every = combinations(range(k), f)
        assert not any(can_change("competence_density", evidence, liars) for liars in every)
    if f < k:
        more = combinations(range(k), f + 1)
        assert any(can_change("competence_density", evidence, liars) for liars in more)


def test_votes_withstand_less_than_half_of_their_lead() -> None:
    votes = np.eye(3)[[0, 0, 0, 0, 0, 1, 2]][:, np.newaxis]
    found = certify("hard", Evidence(votes))
    assert found is not None
    assert found.withstands.tolist() == [1]
    assert_allclose(found.margin, 4 / 7)
    assert_allclose(found.weights, 1 / 7)
    tied = certify("hard", Evidence(np.eye(2)[:, np.newaxis]))
    assert tied is not None
    assert tied.withstands.tolist() == [0]
    assert tied.margin.tolist() == [0.0]


def test_effective_weights_are_parts_of_one() -> None:
    predictions = np.array([[[0.6, 0.4]], [[0.9, 0.1]]])
    found = certify("competence_entropy", Evidence(predictions, sizes=np.array([[3.0], [1.0]])))
    assert found is not None
    assert_allclose(found.weights.sum(axis=0), 1.0)
    assert found.weights[0] > found.weights[1]


def test_rows_are_certified_as_if_each_were_alone() -> None:
    rng = np.random.default_rng(4)
    parts, caps = rng.dirichlet(np.ones(4) / 3, (9, 30)), np.ones((9, 30))
    together = withstands(parts, caps)
    alone = [withstands(parts[:, [row]], caps[:, [row]])[0] for row in range(30)]
    assert_array_equal(together, alone)
    assert set(together.tolist()) > {0}


@pytest.mark.parametrize("rule", NAMES)
def test_only_capped_sums_are_certified(rule: str) -> None:
    found = certify(rule, Evidence(np.eye(3)[:, np.newaxis]))
    assert (found is not None) == (rule in CERTIFIED)


@given(evidence=answers())
@settings(max_examples=40)
def test_under_a_bound_on_weights_only_where_all_count_the_same_there_is_a_certificate(
    evidence: Evidence,
) -> None:
    for rule in CERTIFIED:
        found, free = certify(rule, evidence, share=0.4), certify(rule, evidence)
        if rule in {"hard", "soft", "tta_mean"}:
            assert_array_equal(scores(rule, evidence, 0.4), scores(rule, evidence))
            assert found is not None
            assert free is not None
            assert_array_equal(found.withstands, free.withstands)
        else:
            assert found is None


def test_a_bound_on_weights_lets_one_contributor_move_the_weights_of_others() -> None:
    """Why there is none: what it gains is more than its own cap."""
    row = np.array([[[0.7, 0.3]], [[0.0, 1.0]], [[0.5, 0.5]]])
    one = Evidence(row, sizes=np.array([[10.0], [1.0], [1.0]]))
    other = Evidence(row, sizes=np.array([[10.0], [2.0], [1.0]]))
    gained = scores("competence_energy", other, 0.4) - scores("competence_energy", one, 0.4)
    assert gained[0, 0] > 0, "of a class that it gave nothing to"
