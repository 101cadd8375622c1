"""Health finds who is right without being told, and who no longer is; a lying majority fools it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from fi_stream.aggregation.dawid_skene import dawid_skene
from fi_stream.aggregation.drift import Drift, Tolerance, alarm
from fi_stream.aggregation.health import Observed, agreement, health

CLASSES = 5


def answers(
    rng: np.random.Generator, accuracies: list[float], rows: int
) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(0, CLASSES, rows)
    wrong = (truth + rng.integers(1, CLASSES, (len(accuracies), rows))) % CLASSES
    right = rng.random((len(accuracies), rows)) < np.array(accuracies)[:, np.newaxis]
    return np.where(right, truth, wrong), truth


class TestDawidSkene:
    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=20, deadline=None)
    def test_accuracy_is_found_within_a_few_points_and_truth_better_than_by_the_best(
        self, seed: int
    ) -> None:
        accuracies = [0.9, 0.75, 0.6, 0.5, 0.2]
        labels, truth = answers(np.random.default_rng(seed), accuracies, 1000)
        found = dawid_skene(labels, CLASSES)
        assert_allclose(found.accuracy, (labels == truth).mean(axis=1), atol=0.07)
        assert (found.truth.argmax(axis=1) == truth).mean() > 0.88

    def test_who_takes_one_class_for_another_is_still_understood(self) -> None:
        """Two of five always swap classes 0 and 1: against them the others are right."""
        labels, truth = answers(np.random.default_rng(1), [0.8] * 5, 800)
        swapped = np.array([1, 0, 2, 3, 4])
        labels[:2] = swapped[labels[:2]]
        found = dawid_skene(labels, CLASSES)
        assert (found.truth.argmax(axis=1) == truth).mean() > 0.93
        assert (found.accuracy[2:] > found.accuracy[:2].max() + 0.2).all()

    def test_a_majority_that_agrees_to_lie_is_believed(self) -> None:
        rng = np.random.default_rng(2)
        labels, truth = answers(rng, [0.9] * 5, 500)
        labels[:3] = rng.integers(0, CLASSES, 500)
        found = dawid_skene(labels, CLASSES)
        assert found.accuracy[:3].min() > 0.95
        assert found.accuracy[3:].max() < 0.4
        assert (found.truth.argmax(axis=1) == truth).mean() < 0.4

    @given(
        labels=st.tuples(st.integers(1, 5), st.integers(0, 12)).flatmap(
            lambda shape: arrays(np.int64, shape, elements=st.integers(-1, CLASSES - 1))
        )
    )
    @settings(deadline=None)
    def test_any_answers_give_probabilities_and_who_said_nothing_is_unknown(
        self, labels: np.ndarray
    ) -> None:
        found = dawid_skene(labels, CLASSES)
        assert_allclose(found.truth.sum(axis=1), 1.0)
        silent = (labels < 0).all(axis=1)
        assert np.isnan(found.accuracy[silent]).all()
        told = found.accuracy[~silent]
        assert ((told >= 0) & (told <= 1 + 1e-12)).all()


class TestDrift:
    def test_a_drop_is_found_within_some_dozen_answers(self) -> None:
        rng = np.random.default_rng(3)
        agreed = np.concatenate([rng.random(600) < 0.85, rng.random(400) < 0.4])
        found = alarm(agreed.tolist())
        assert found is not None
        assert 600 < found < 650

    @pytest.mark.parametrize("usual", [0.3, 0.6, 0.9, 1.0])
    def test_there_are_few_false_alarms(self, usual: float) -> None:
        rng = np.random.default_rng(4)
        streams = rng.random((60, 3000)) < usual
        assert sum(alarm(one.tolist()) is not None for one in streams) <= 2

    def test_an_improvement_is_no_alarm(self) -> None:
        rng = np.random.default_rng(5)
        agreed = np.concatenate([rng.random(300) < 0.5, rng.random(3000) < 0.9])
        assert alarm(agreed.tolist()) is None

    def test_nothing_is_known_before_the_baseline_is(self) -> None:
        drift = Drift(Tolerance(baseline=3))
        for _ in range(3):
            assert drift.usual is None
            assert not drift.answered(agreed=True)
        assert drift.usual == pytest.approx(3.5 / 4 - (3.5 / 4 * 0.5 / 4 / 3) ** 0.5)
        assert drift.ratio == 0.0


class TestHealth:
    def test_agreement_is_with_what_most_of_the_others_say(self) -> None:
        labels = np.array([[0, 1, -1, 2], [0, 2, 1, -1], [1, 2, 1, -1], [0, 0, -1, -1]])
        found = agreement(labels, 3)
        assert found[0].tolist()[:2] == [1.0, 0.0]
        assert np.isnan(found[0, 2:]).all()
        assert found[2].tolist()[:3] == [0.0, 0.0 + 1 / 3, 1.0]

    def test_a_window_says_it_all_of_each(self) -> None:
        rng = np.random.default_rng(6)
        labels, _ = answers(rng, [0.9, 0.8, 0.7, 0.6], 800)
        labels[3, :200] = -1
        confidence = np.where(labels < 0, np.nan, 0.95)
        latency = np.where(labels < 0, np.nan, 10.0)
        latency[0, :16] = 100.0
        waited = np.ones(labels.shape, dtype=np.bool_)
        waited[3, :100] = False
        found = health(Observed(labels, confidence, latency, waited), CLASSES)
        estimated = [one.accuracy or 0.0 for one in found]
        assert estimated == sorted(estimated, reverse=True)
        assert found[3].overconfidence == pytest.approx(0.95 - estimated[3])
        assert [one.abstained for one in found] == [0.0, 0.0, 0.0, 100 / 700]
        assert (found[0].latency_p50, found[0].latency_p99) == (10.0, 100.0)
        assert found[0].agreement is not None
        assert found[0].agreement > 0.7

    def test_who_said_nothing_has_no_health_but_an_abstain_rate(self) -> None:
        nothing, waited = np.full((3, 4), np.nan), np.ones((3, 4), dtype=np.bool_)
        labels = np.array([[-1] * 4, [0, 1, 0, 1], [-1] * 4])
        waited[2] = False
        silent, alone, unasked = health(Observed(labels, nothing, nothing, waited), CLASSES)
        assert (unasked.accuracy, unasked.abstained) == (None, None)
        assert (silent.accuracy, silent.overconfidence, silent.agreement) == (None, None, None)
        assert (silent.abstained, silent.latency_p50) == (1.0, None)
        assert alone.agreement is None
