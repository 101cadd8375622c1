"""Many settled queries in one pass: each is decided as if it were alone."""

from __future__ import annotations

import hashlib
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fi_stream.aggregation.evaluate import Gathered, evaluate, normalised, one_hot, stacked
from fi_stream.aggregation.rules import RULES
from fi_stream.errors import ConfigError

CLASSES = 4

MORE = float(np.nextafter(0.4, 1.0))
FIVE_ANSWERS = {
    "near tie": [
        [0.4, MORE, 0.1, 0.1],
        [MORE, 0.4, 0.1, 0.1],
        [0.1, 0.2, 0.3, 0.4],
        [0.3, 0.3, 0.2, 0.2],
        [0.7, 0.1, 0.1, 0.1],
    ],
    "exact tie": [
        [0.6, 0.4, 0.0, 0.0],
        [0.4, 0.6, 0.0, 0.0],
        [0.3, 0.3, 0.2, 0.2],
        [0.1, 0.1, 0.4, 0.4],
        [0.25, 0.25, 0.25, 0.25],
    ],
    "labels": np.eye(CLASSES)[[0, 1, 2, 0, 1]].tolist(),
}


def digest(n: int) -> bytes:
    return hashlib.sha256(n.to_bytes(8, "big")).digest()


@st.composite
def gathered(draw: st.DrawFn) -> Gathered:
    """One query's answers: probabilities, or labels, which tie often."""
    seed = draw(st.integers(0, 2**32))
    members = draw(st.sets(st.sampled_from(["ann", "bob", "cyd", "dee", "eva"]), min_size=1))
    rows = draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    if draw(st.booleans()):
        answers = {m: rng.dirichlet(np.ones(CLASSES) / 2, rows) for m in sorted(members)}
    else:
        answers = {m: one_hot(rng.integers(CLASSES, size=rows), CLASSES) for m in sorted(members)}
    return Gathered(digest(seed), draw(st.sampled_from(sorted(RULES))), answers)


@given(st.lists(gathered(), max_size=25))
@settings(max_examples=60)
def test_a_query_gets_the_same_bits_alone_and_among_others(queries: list[Gathered]) -> None:
    together = evaluate(queries)
    assert len(together) == len(queries)
    for query, decision in zip(queries, together, strict=True):
        (alone,) = evaluate([query])
        assert_array_equal(decision.labels, alone.labels)
        assert_array_equal(decision.scores, alone.scores)


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("kind", FIVE_ANSWERS)
def test_all_120_arrival_orders_of_five_answers_give_the_same_bits(name: str, kind: str) -> None:
    arrived = [(f"p{i}", np.array([row])) for i, row in enumerate(FIVE_ANSWERS[kind])]
    decisions = evaluate([Gathered(digest(3), name, dict(o)) for o in permutations(arrived)])
    assert len({(d.labels.tobytes(), d.scores.tobytes()) for d in decisions}) == 1


def test_three_different_labels_are_decided_by_the_query_and_not_always_by_class_0() -> None:
    answers = {f"p{i}": one_hot(np.array([i]), CLASSES) for i in range(3)}
    decisions = evaluate([Gathered(digest(n), "hard", answers) for n in range(100)])
    assert {int(d.labels[0]) for d in decisions} == {0, 1, 2}


def test_participants_of_a_stack_are_sorted_by_member_id() -> None:
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.5, 0.5]])
    first = Gathered(digest(1), "soft", {"b": a, "a": a + 1})
    second = Gathered(digest(2), "soft", {"a": b, "b": b + 1})
    assert_array_equal(stacked([first, second]), [[*(a + 1), *b], [*a, *(b + 1)]])


def test_members_are_paired_with_their_own_rows() -> None:
    sure, unsure = np.array([[0.0, 1.0]] * 2), np.array([[0.6, 0.4]] * 2)
    first = Gathered(digest(1), "soft", {"b": unsure, "a": sure})
    second = Gathered(digest(2), "soft", {"a": unsure[:1], "b": unsure[:1]})
    one, two = evaluate([first, second])
    assert_array_equal(one.labels, [1, 1])
    assert_array_equal(two.labels, [0])
    assert one.scores.shape == (2, 2)
    assert two.scores.shape == (1, 2)


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=CLASSES, max_size=CLASSES),
        min_size=1,
        max_size=6,
    )
)
def test_scores_are_probabilities_even_when_noise_makes_sums_negative(
    rows: list[list[float]],
) -> None:
    scores = normalised(np.array(rows))
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-12)


def test_the_label_of_negative_sums_is_still_the_best_class() -> None:
    (decision,) = evaluate([Gathered(digest(1), "soft", {"a": np.array([[-2.0, -1.0, -3.0]])})])
    assert decision.labels.tolist() == [1]
    assert_array_equal(decision.scores, np.full((1, 3), 1 / 3))


def test_one_hot_has_a_single_one_at_the_label() -> None:
    assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_nothing_settled_decides_nothing() -> None:
    assert evaluate([]) == []


def test_a_query_under_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'soft'"):
        evaluate([Gathered(digest(1), "sofd", {"a": np.eye(2)})])


def test_a_rule_that_weighs_by_size_pairs_each_member_with_its_own() -> None:
    sure, unsure = np.array([[0.0, 1.0]]), np.array([[0.8, 0.2]])
    answers = {"b": unsure, "a": sure}
    rule = "competence_entropy"
    small = Gathered(digest(1), rule, answers, {"a": 1.0, "b": 100.0, "absent": 7.0})
    large = Gathered(digest(2), rule, answers, {"a": 100.0, "b": 1.0})
    unsaid = Gathered(digest(3), rule, answers)
    by_entropy = Gathered(digest(3), "entropy", answers)
    one, two, three, four = evaluate([small, large, unsaid, by_entropy])
    assert [d.labels.tolist() for d in (one, two)] == [[0], [1]]
    assert_array_equal(three.scores, four.scores)
    for query, decision in ((small, one), (large, two)):
        (alone,) = evaluate([query])
        assert_array_equal(alone.scores, decision.scores)
    assert two.withstands is not None
    assert two.withstands.tolist() == [0]
