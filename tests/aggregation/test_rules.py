"""The rules give the expected numbers, and the same bits whatever stands around them."""

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

from fi_stream.aggregation import robust
from fi_stream.aggregation.consensus import consensus_weights
from fi_stream.aggregation.evaluate import normalised
from fi_stream.aggregation.robust import refuse_trim, trimmed_mean
from fi_stream.aggregation.rules import RULES, entropy_weights, hard, rule
from fi_stream.errors import ConfigError

# One stack of five predictions, eight rows, four classes, with outputs computed elsewhere from the
# formulas. In row 5 nobody knows; in row 6 four sure participants tie and the fifth does not know.
VECTORS = json.loads((Path(__file__).parent / "vectors" / "rules.json").read_text("utf-8"))
EXPECTED = VECTORS["rules"]
PREDICTIONS = np.array(VECTORS["probabilities"])

every_rule = pytest.mark.parametrize("name", sorted(RULES))


def unit(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Predictions, of which some have a single class, or several that are equal."""
    raw = st.one_of(st.sampled_from([0.0, 0.0, 1.0, 0.5]), st.floats(0.0, 1.0))
    return arrays(np.float64, shape, elements=raw).map(on_the_simplex)


def on_the_simplex(raw: np.ndarray) -> np.ndarray:
    raw = raw + (raw.sum(axis=-1, keepdims=True) < 1e-3)
    return raw / raw.sum(axis=-1, keepdims=True)


shapes = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(2, 12))
stacks = shapes.flatmap(unit)


def test_hard_counts_the_expected_votes() -> None:
    assert_array_equal(hard(PREDICTIONS), EXPECTED["hard"]["votes"])


@pytest.mark.parametrize("name", sorted(set(EXPECTED) & set(RULES) - {"hard"}))
def test_a_rule_gives_the_expected_probabilities(name: str) -> None:
    # The geometric median is given to 1e-6; the others are exact but for rounding.
    tolerance = EXPECTED[name].get("tolerance", 1e-15)
    found = normalised(rule(name)(PREDICTIONS))
    assert_allclose(found, EXPECTED[name]["probabilities"], rtol=0, atol=tolerance)


def test_entropy_and_consensus_give_the_expected_weights() -> None:
    found = entropy_weights(PREDICTIONS)
    assert_allclose(found, EXPECTED["entropy"]["weights"], rtol=0, atol=1e-15)
    found = consensus_weights(PREDICTIONS, EXPECTED["consensus"]["beta"])
    assert_allclose(found, EXPECTED["consensus"]["weights"], rtol=0, atol=1e-15)


@every_rule
def test_bits_are_the_same_on_every_machine(name: str) -> None:
    """numpy's own log and exp fail this on one processor or another."""
    k = np.arange(6 * 50 * 7, dtype=np.float64).reshape(6, 50, 7)
    raw = (k * 7919 + 13) % 1009 + 1
    predictions = raw / np.add.accumulate(raw, axis=-1)[..., -1:]
    bits = hashlib.sha256(rule(name)(predictions).astype("<f8").tobytes()).hexdigest()
    assert bits[:16] == GOLDEN[name]


GOLDEN = {
    "hard": "abb5daa4b5fe3beb",
    "soft": "69d999d7ad59bff6",
    "entropy": "42f7596e85202202",
    "consensus": "2644c0f9fb7b7380",
    "logit_mean": "28b4d8d97f19a106",
    "median": "25d37deb771abc4f",
    "trimmed_mean": "72eda89d5cb7edac",
    "geometric_median": "d72a0fc25b3a3a83",
}


@every_rule
@given(stack=stacks, data=st.data())
def test_order_of_participants_changes_no_bit(
    name: str, stack: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(stack.shape[0])))
    assert_array_equal(rule(name)(stack[order]), rule(name)(stack))


@every_rule
@given(stack=stacks, data=st.data())
def test_classes_in_another_order_give_the_same_scores_in_that_order(
    name: str, stack: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(stack.shape[2])))
    # The geometric median adds squares in the order of the classes: it may stop a step apart.
    tolerance = 1e-6 if name == "geometric_median" else 0.0
    found, expected = rule(name)(stack[..., order]), rule(name)(stack)[:, order]
    assert_allclose(found, expected, rtol=0, atol=tolerance)


@every_rule
@given(stack=stacks, others=st.integers(0, 40))
def test_other_rows_of_the_stack_change_no_bit(name: str, stack: np.ndarray, others: int) -> None:
    k, rows, classes = stack.shape
    alone = np.concatenate([rule(name)(stack[:, r : r + 1]) for r in range(rows)])
    beside = on_the_simplex(np.random.default_rng(others).random((k, others, classes)))
    together = rule(name)(np.concatenate([beside, stack], axis=1))[others:]
    assert_array_equal(together, alone)


@every_rule
@given(stack=stacks)
def test_layout_in_memory_changes_no_bit(name: str, stack: np.ndarray) -> None:
    expected = rule(name)(stack)
    assert_array_equal(rule(name)(np.asfortranarray(stack)), expected)
    backwards = np.ascontiguousarray(stack[..., ::-1])[..., ::-1]
    assert_array_equal(rule(name)(backwards), expected)


@every_rule
@given(
    stack=shapes.flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-1e6, 1e6, width=32))
    )
)
def test_noised_predictions_give_finite_scores(name: str, stack: np.ndarray) -> None:
    assert np.isfinite(rule(name)(stack)).all()


@given(stack=stacks)
def test_entropy_weight_is_between_a_guess_and_certainty(stack: np.ndarray) -> None:
    weights = entropy_weights(stack)
    assert (weights <= 1.0).all()
    assert (weights >= (1 - 1e-12) / stack.shape[2]).all()


def test_zero_probabilities_have_no_entropy() -> None:
    certain = np.array([[[0.0, 1.0, 0.0]], [[5e-324, 1.0, 0.0]]])
    assert_array_equal(entropy_weights(certain), [[1.0], [1.0]])


@pytest.mark.parametrize("parts", [3, 5, 6, 7, 9, 11])
def test_votes_split_in_any_fractions_still_tie_with_whole_ones(parts: int) -> None:
    """`parts` participants split between as many classes against one sure of class 0."""
    split = np.zeros((parts, 1, parts + 1))
    split[..., 1:] = 1 / parts
    sure = np.zeros((1, 1, parts + 1))
    sure[..., 0] = 1.0
    votes = hard(np.concatenate([sure, split]))
    assert_array_equal(votes, np.ones((1, parts + 1)))


@pytest.mark.parametrize(("participants", "middle"), [(2, [0, 1]), (4, [1, 2])])
def test_an_even_median_is_the_mean_of_the_middle_two_and_is_renormalised(
    participants: int, middle: list[int]
) -> None:
    stack = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.3, 0.6]], [[0.3, 0.3, 0.4]], [[0.5, 0.1, 0.4]]])
    ordered = np.sort(stack[:participants], axis=0)[middle]
    found = rule("median")(stack[:participants])
    assert_array_equal(found, (ordered[0] + ordered[1]) / 2)
    assert_allclose(normalised(found).sum(), 1.0, rtol=1e-15)


def test_trimming_leaves_something_of_any_answers_and_is_refused_where_it_would_not() -> None:
    stack = np.array([[[0.9, 0.1]], [[0.5, 0.5]], [[0.1, 0.9]], [[0.0, 1.0]]])
    assert_array_equal(trimmed_mean(stack[:1]), stack[0])
    assert_array_equal(trimmed_mean(stack[:2]), (stack[0] + stack[1]) / 2)
    assert_array_equal(trimmed_mean(stack[:3]), stack[1])
    assert_allclose(trimmed_mean(stack), [[0.3, 0.7]])
    assert [participants for participants in range(1, 6) if refuse_trim(participants)] == [1, 2]
    assert refuse_trim(4, trim=2)
    assert "nothing would be left. Use rule 'median'" in str(refuse_trim(2))


@given(stack=shapes.flatmap(unit))
def test_no_point_nearby_is_nearer_to_the_predictions_than_the_geometric_median(
    stack: np.ndarray,
) -> None:
    def distances(point: np.ndarray) -> np.ndarray:
        return np.linalg.norm(stack - point, axis=-1).sum(axis=0)

    found = rule("geometric_median")(stack)
    rng = np.random.default_rng(3)
    others = [found + step * (stack[k] - found) for k in range(len(stack)) for step in (1e-3, 1.0)]
    others += [found + scale * rng.normal(size=found.shape) for scale in (1e-4, 1e-2) * 5]
    for other in others:
        assert (distances(found) <= distances(other) + 1e-6 * len(stack)).all()


def test_the_geometric_median_of_so_many_rows_that_they_are_not_worked_on_at_once() -> None:
    stack = np.random.default_rng(1).dirichlet(np.ones(10) / 3, (10, 200))
    assert stack.size * len(stack) > robust._AT_ONCE
    whole = rule("geometric_median")(stack)
    for row in range(0, 200, 20):
        part = slice(row, row + 20)
        assert_array_equal(rule("geometric_median")(stack[:, part]), whole[part])


def test_the_geometric_median_is_what_most_say_and_else_leaves_the_prediction_it_starts_at() -> (
    None
):
    sure, other = [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]
    assert_array_equal(rule("geometric_median")(np.array([sure, other, sure])), sure)
    corners = np.eye(3)[:, np.newaxis]
    assert_allclose(rule("geometric_median")(corners), [[1 / 3, 1 / 3, 1 / 3]], atol=1e-8)


def test_what_nobody_thinks_possible_stays_so_in_the_mean_of_logits() -> None:
    stack = np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.5, 0.5]]])
    assert_allclose(rule("logit_mean")(stack), [[0.0, 1.0, 0.0]], atol=1e-12)


def test_an_unknown_rule_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'entrpy': did you mean 'entropy'\?"):
        rule("entrpy")
    with pytest.raises(ConfigError, match="The rules are hard, soft, entropy, "):
        rule("zzz")
