"""A query is decided early only when no missing answer can change a label or reach a tie."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fi_stream.aggregation.early import CAPS, certain
from fi_stream.aggregation.evaluate import Gathered, scored
from fi_stream.aggregation.facts import Answered, Asked, Candidate, Given
from fi_stream.aggregation.rules import RULES
from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE
from fi_stream.events.header import Ask
from fi_stream.values import BrokerMillis

DIGEST = b"d" * 32
Rows = list[list[float]]


def candidate(rule: str, predictions: list[np.ndarray], missing: int) -> Candidate:
    ask = Ask(
        query=bytes(16),
        partition=0,
        rule=rule,
        rows=len(predictions[0]),
        protection="trusted",
        created=0,
        deadline=1000,
    )
    answers = {
        f"p{number}": Given(Answered(f"p{number}", DIGEST, BrokerMillis(1)), "m", prediction)
        for number, prediction in enumerate(predictions)
    }
    return Candidate(Asked("alice", DIGEST, ask, 1, frozenset()), answers, missing)


def decided(
    rule: str, predictions: list[np.ndarray], missing: int, *, noised: bool = False
) -> bool:
    (found,) = certain([candidate(rule, predictions, missing)], noised=noised)
    return found


def winners(rule: str, completions: list[list[np.ndarray]]) -> set[tuple[tuple[int, ...], ...]]:
    """The best classes of each row, in each completion: more than one is a tie."""
    gathered = [
        Gathered(DIGEST, rule, {f"p{n}": one for n, one in enumerate(predictions)})
        for predictions in completions
    ]
    found = set()
    for group in scored(gathered):
        best = group.scores == group.scores.max(axis=-1, keepdims=True)
        for mine in best.reshape(len(group.queries), -1, best.shape[1]):
            found.add(tuple(tuple(np.flatnonzero(row).tolist()) for row in mine))
    return found


def stands(rule: str, predictions: list[np.ndarray], completions: list[list[np.ndarray]]) -> bool:
    """By brute force: whether every completion has the same single best class in each row."""
    everything = winners(rule, [predictions + completion for completion in completions])
    return len(everything) == 1 and all(len(best) == 1 for best in next(iter(everything)))


def extremes(rows: int, classes: int) -> list[np.ndarray | None]:
    """What a missing participant may say to move a result most; None abstains."""
    one_hots = np.eye(classes)
    pairs = [(one_hots[a] + one_hots[b]) / 2 for a in range(classes) for b in range(a)]
    over = [one * (1 + SIMPLEX_TOLERANCE) for one in one_hots]
    each = [*one_hots, *over, *pairs, np.full(classes, 1 / classes)]
    return [None, *(np.tile(one, (rows, 1)) for one in each)]


def filled(missing: int, choices: list[np.ndarray | None]) -> list[list[np.ndarray]]:
    """All that `missing` participants may say together."""
    return [[one for one in said if one is not None] for said in product(choices, repeat=missing)]


def simplex(classes: int, steps: int) -> st.SearchStrategy[list[float]]:
    """A point of the simplex on a grid, so that ties and near-ties are many."""
    cuts = st.lists(st.integers(0, steps), min_size=classes - 1, max_size=classes - 1)
    return cuts.map(lambda c: (np.diff([0, *sorted(c), steps]) / steps).tolist())


@st.composite
def situations(draw: st.DrawFn, *, one_hot: bool = False) -> tuple[list[np.ndarray], int]:
    """Some answers, most of them of one mind, and how many participants are missing."""
    missing = draw(st.integers(1, 2))
    count = draw(st.integers(1, 6 if one_hot else 5))
    rows, classes = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    steps = 1 if one_hot else draw(st.sampled_from([1, 2, 4, 1000]))
    said = st.lists(simplex(classes, steps), min_size=rows, max_size=rows)
    favourite = draw(said)
    answers = [draw(said) if draw(st.integers(0, 3)) == 0 else favourite for _ in range(count)]
    return [np.array(answer) for answer in answers], missing


@given(situation=situations(), rule=st.sampled_from(sorted(CAPS)), data=st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_the_missing_ones_say_a_decided_label_stands_alone(
    situation: tuple[list[np.ndarray], int], rule: str, data: st.DataObject
) -> None:
    predictions, missing = situation
    if not decided(rule, predictions, missing):
        return
    rows, classes = predictions[0].shape
    free = st.lists(simplex(classes, 1000), min_size=rows, max_size=rows).map(np.array)
    drawn = data.draw(st.lists(free, min_size=1, max_size=3))
    assert stands(rule, predictions, filled(missing, [*extremes(rows, classes), *drawn]))


@given(situation=situations(one_hot=True))
@settings(deadline=None, max_examples=300)
@example(([np.eye(2)[[0]]] * 3, 2))
@example(([np.eye(2)[[0]]] * 2, 2))
def test_of_labels_every_query_is_decided_that_can_be(
    situation: tuple[list[np.ndarray], int],
) -> None:
    predictions, missing = situation
    rows, classes = predictions[0].shape
    votes = [np.eye(classes)[list(labels)] for labels in product(range(classes), repeat=rows)]
    expected = stands("hard", predictions, filled(missing, [None, *votes]))
    assert decided("hard", predictions, missing) is expected


@pytest.mark.parametrize("rule", sorted(CAPS))
def test_a_lead_of_as_much_as_is_missing_is_not_enough(rule: str) -> None:
    for number in range(1, 6):
        assert not decided(rule, [np.eye(3)[[1]]] * number, number)
        assert decided(rule, [np.eye(3)[[1]]] * (number + 1), number)


def test_a_missing_row_that_adds_up_to_a_little_more_than_1_is_reckoned_with() -> None:
    predictions = [np.array([[0.75, 0.25]]), np.array([[0.7502, 0.2498]])]  # a lead of 1.0004
    over = np.array([[0.0, 1 + SIMPLEX_TOLERANCE]])
    assert winners("soft", [[*predictions, over]]) == {((1,),)}
    assert not decided("soft", predictions, 1)


def test_rounding_makes_no_lead() -> None:
    """As float64 adds them up, the lead is larger than what is missing, and then it is gone."""
    firsts = [
        0.9880742393649165,
        0.8708928503346172,
        0.8339941989458942,
        0.6120337088101959,
        0.8776390835172537,
        0.2994289285173487,
        0.5194369905097739,
    ]
    predictions = [np.array([[first, 1 - first]]) for first in firsts]
    over = [np.array([[0.0, 1 + SIMPLEX_TOLERANCE]])] * 3
    assert not stands("soft", predictions, [[], over])
    assert not decided("soft", predictions, 3)


def test_votes_in_thirds_do_not_hide_a_tie() -> None:
    third, first = np.full((1, 3), 1 / 3), np.array([[1.0, 0.0, 0.0]])
    for number in range(1, 12):
        assert not decided("hard", [third] * number + [first] * 2, 2)
        assert decided("hard", [third] * number + [first] * 3, 2)


def test_one_open_row_keeps_the_query_open() -> None:
    sure, split = np.eye(2)[[0, 0]], np.eye(2)[[0, 1]]
    assert decided("hard", [sure, sure, sure], 2)
    assert not decided("hard", [sure, sure, split], 2)


def test_each_query_is_looked_at_by_itself() -> None:
    sure, open_ = [np.eye(3)[[0, 1]]] * 3, [np.eye(3)[[0, 1]], np.eye(3)[[0, 2]]]
    short = [np.eye(3)[[2]]] * 3
    mixed = [
        candidate(rule, predictions, 1)
        for rule in ("soft", "hard", "entropy", "soft")
        for predictions in (sure, open_, short)
    ]
    assert certain(mixed, noised=False) == [True, False, True] * 4


@pytest.mark.parametrize("rule", sorted(CAPS))
def test_where_noised_integers_may_come_only_votes_are_decided(rule: str) -> None:
    predictions = [np.eye(3)[[1]]] * 4
    assert decided(rule, predictions, 1, noised=True) is (rule == "hard")
    huge = np.array([[9e9, -9e9, 0.0]])
    assert stands(rule, predictions, [[], [huge]]) is (rule == "hard")


def test_a_rule_without_a_known_cap_is_never_decided() -> None:
    assert not decided("loudest", [np.eye(3)[[1]]] * 9, 1)


def test_the_rules_of_ours_that_are_capped_sums_have_a_cap_and_no_other() -> None:
    assert set(CAPS) == {"hard", "soft", "entropy"}
    assert set(CAPS) < set(RULES)


def test_where_weights_are_bounded_only_rules_without_weights_are_certain() -> None:
    sure = [np.tile([0.98, 0.01, 0.01], (2, 1))] * 4
    for rule in CAPS:
        free, bounded = (
            certain([candidate(rule, sure, 1)], noised=False, share=share) for share in (None, 0.5)
        )
        assert free == [True]
        assert bounded == [rule != "entropy"]
