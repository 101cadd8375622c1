"""Shares of an answer: together they are it, and either alone is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.aggregation.competence import ENERGY_CAP
from fi_stream.aggregation.evidence import OWN_CAPS, Evidence, scores
from fi_stream.aggregation.sums import CAP, SUM_RULES, contribution, scores_of
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.weighted import whole_steps
from fi_stream.secagg.shares import Bound, added, mask, new_seed, new_share_id, opened, split
from fi_stream.secagg.width import noise_tail, refuse_sum, refuse_width

GRID = 2**16
BOUND = Bound("alice", b"q" * 16, b"d" * 32, "p1", 2, 4)


def bound(number: int, rows: int, columns: int) -> Bound:
    return Bound("alice", b"q" * 16, b"d" * 32, f"p{number}", rows, columns)


def summed(answers: list[np.ndarray]) -> np.ndarray:
    """What a client opens: the leader's sum and the helper's, put together."""
    rows, columns = answers[0].shape
    bounds = [bound(number, rows, columns) for number in range(len(answers))]
    seeds = [new_seed() for _ in answers]
    leader = added(split(*each) for each in zip(answers, seeds, bounds, strict=True))
    helper = added(mask(*each) for each in zip(seeds, bounds, strict=True))
    return opened(leader, helper)


@pytest.mark.parametrize("count", [*range(1, 11), 25, 50, 99, 100])
@pytest.mark.parametrize("value", [0, CAP * GRID, -3 * GRID, 2**40, -(2**40)])
def test_a_sum_of_equal_answers_is_as_many_times_one(count: int, value: float) -> None:
    one = np.full((2, 4), round(value), dtype=np.int64)
    assert (summed([one] * count) == count * one).all()


@given(st.integers(1, 100), st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 5))
def test_both_sums_together_are_the_sum_of_the_answers(
    count: int, seed: int, rows: int, columns: int
) -> None:
    draw = np.random.default_rng(seed)
    answers = list(draw.integers(-(2**50), 2**50, (count, rows, columns), dtype=np.int64))
    assert (summed(answers) == np.sum(answers, axis=0)).all()


def test_order_of_the_answers_does_not_matter() -> None:
    draw = np.random.default_rng(1)
    shares = list(draw.integers(0, 2**64, (7, 2, 3), dtype=np.uint64))
    assert (added(shares) == added(reversed(shares))).all()


def test_a_mask_is_of_one_answer_only() -> None:
    seed = new_seed()
    others = [
        replace(BOUND, client="bob"),
        replace(BOUND, query=b"r" * 16),
        replace(BOUND, digest=b"e" * 32),
        replace(BOUND, participant="p2"),
        replace(BOUND, rows=4, columns=2),
    ]
    first = mask(seed, BOUND)
    assert (first == mask(seed, BOUND)).all()
    assert first.shape == (2, 4)
    for other in others:
        assert not np.isin(mask(seed, other), first).any()
    assert not np.isin(mask(new_seed(), BOUND), first).any()


def test_seeds_and_ids_are_never_the_same_twice() -> None:
    assert len({new_seed() for _ in range(1000)}) == 1000
    assert len({new_share_id() for _ in range(1000)}) == 1000


def test_the_mask_of_a_seed_never_changes() -> None:
    """Participants, helper and replays of other versions must draw the same."""
    drawn = mask(bytes(range(32)), BOUND)
    assert drawn[0, 0] == 16338614537778692972
    assert drawn[1, 3] == 15905903368410379028


class TestWidth:
    def test_honest_sums_of_up_to_a_thousand_participants_fit(self) -> None:
        assert refuse_width(1024, GRID, 1e9) is None

    def test_sums_that_may_overflow_are_refused(self) -> None:
        assert "64 bits" in str(refuse_width(2, 2**62, 0.0))
        assert "64 bits" in str(refuse_width(1, GRID, 1e18))

    @pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100])
    def test_the_largest_and_smallest_honest_sums_are_taken(self, count: int) -> None:
        tail = noise_tail(count, 1000.0)
        for value in (0, count * GRID, -tail, count * GRID + tail):
            assert refuse_sum(np.full((1, 2), value), count, GRID, 1000.0) is None
        for value in (-tail - 1, count * GRID + tail + 1, 2**63 - 1, -(2**63)):
            found = refuse_sum(np.array([[0, value]]), count, GRID, 1000.0)
            assert isinstance(found, Refusal)
            assert found.reason is Reason.SUM_OUT_OF_RANGE

    def test_a_share_under_another_seed_puts_the_sum_out_of_range(self) -> None:
        """In 2,000 sums of one row of three numbers: the chance of one in range is 1e-90."""
        answers = [np.full((1, 3), GRID // 3)] * 3
        bounds = [bound(number, 1, 3) for number in range(3)]
        for _ in range(2000):
            seeds = [new_seed() for _ in answers]
            leader = added(split(*each) for each in zip(answers, seeds, bounds, strict=True))
            helper = added(
                mask(*each) for each in zip([new_seed(), *seeds[1:]], bounds, strict=True)
            )
            assert refuse_sum(opened(leader, helper), 3, GRID, 1e5) is not None


class TestContributions:
    @given(st.integers(1, 8), st.integers(1, 3), st.integers(2, 6), st.integers(0, 2**32))
    @pytest.mark.parametrize("rule", list(SUM_RULES))
    def test_the_sum_of_contributions_is_what_the_rule_says(
        self, rule: str, count: int, rows: int, classes: int, seed: int
    ) -> None:
        draw = np.random.default_rng(seed)
        predictions = draw.dirichlet(np.ones(classes), (count, rows))
        cap = OWN_CAPS.get(rule, 1.0)
        own = cap * draw.uniform(0, 1, (count, rows)) if rule in OWN_CAPS else None
        parts = [
            whole_steps(contribution(each, rule, own=None if own is None else own[place]), GRID)
            for place, each in enumerate(predictions)
        ]
        assert all(part.min() >= 0 and part.max() <= CAP * GRID for part in parts)
        wanted = scores(rule, Evidence(predictions, own=own)) / cap
        # Each number is rounded to half a step; `hard` rounds votes to 2^-20 besides.
        assert np.abs(scores_of(summed(parts), GRID) - wanted).max() <= count / 2 / GRID + 1e-5

    @given(st.integers(2, 12), st.integers(0, 2**32), st.sampled_from([0.01, 0.3, 1.0, 30.0]))
    @pytest.mark.parametrize("rule", list(SUM_RULES))
    def test_no_pair_of_answers_is_further_apart_than_the_declared_sensitivity(
        self, rule: str, classes: int, seed: int, concentration: float
    ) -> None:
        draw = np.random.default_rng(seed)
        made = draw.dirichlet(np.full(classes, concentration), 60)
        made = np.concatenate([made, np.eye(classes), np.full((1, classes), 1 / classes)])
        own = OWN_CAPS[rule] * draw.uniform(0, 1, len(made)) if rule in OWN_CAPS else None
        steps = whole_steps(contribution(made, rule, own=own), GRID)
        apart = steps[:, np.newaxis, :] - steps[np.newaxis, :, :]
        assert (apart.astype(object) ** 2).sum(axis=-1).max() <= 2 * GRID**2 + 2

    def test_a_participant_weighs_by_its_part_of_the_largest_size(self) -> None:
        prediction = np.array([[1.0, 0.0]])
        assert contribution(prediction, "competence_entropy", 0.25).tolist() == [[0.25, 0.0, 0.25]]
        assert contribution(prediction, "entropy", 0.25).tolist() == [[1.0, 0.0, 1.0]]

    def test_a_participant_s_own_weight_counts_as_a_part_of_its_cap(self) -> None:
        prediction, half = np.array([[1.0, 0.0]]), np.array([ENERGY_CAP / 2])
        found = contribution(prediction, "competence_energy", 0.5, half)
        np.testing.assert_allclose(found, [[0.25, 0.0, 0.25]])
        found = contribution(prediction, "tta_l2", 0.5, np.array([0.5]))
        np.testing.assert_allclose(found, [[0.5, 0.0, 0.5]])

    def test_what_is_beyond_the_cap_is_cut_to_it_as_an_integer(self) -> None:
        steps = whole_steps(np.array([[1.7, -0.2, CAP]]), GRID)
        assert steps.tolist() == [[GRID, 0, GRID]]
