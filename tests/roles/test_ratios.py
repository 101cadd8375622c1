"""What is learnt of each client's queries: of its own, in bounded memory, beside the answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fi_stream.aggregation.competence import DENSITY_CAP, density_weights
from fi_stream.aggregation.density import MOST_EXAMPLES, fit
from fi_stream.clock import ManualClock
from fi_stream.roles import ratios as module
from fi_stream.roles.ratios import EVERY, MOST_CLIENTS, RESTS, Ratios

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Rows = NDArray[np.float64]


def drawn(rows: int, mean: float = 0.0, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).normal(mean, 1.0, (rows, 3))


TRAINING = drawn(80, 1.0, 9)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ratios(clock: ManualClock) -> Iterator[Ratios]:
    made = Ratios(TRAINING, clock)
    yield made
    made.close()


def settled(ratios: Ratios) -> None:
    """Wait until what is being learnt is there."""
    if ratios._learning is not None:
        ratios._learning[2].result(20)


def test_until_a_hundred_rows_were_asked_every_row_weighs_one(ratios: Ratios) -> None:
    assert ratios.weights("alice", drawn(99)).tolist() == [1.0] * 99
    assert ratios._learning is None


def test_from_then_on_rows_weigh_by_those_before_them(ratios: Ratios) -> None:
    past, asked = drawn(100), drawn(7, 0.5, 2)
    assert (ratios.weights("alice", past) == 1).all()
    settled(ratios)
    np.testing.assert_allclose(
        ratios.weights("alice", asked), density_weights(fit(TRAINING, past).log_ratio(asked))
    )


def test_it_is_learnt_again_after_fifty_rows_and_not_before(ratios: Ratios) -> None:
    past, more, last = drawn(100), drawn(EVERY - 1, 3.0, 2), drawn(1, 3.0, 4)
    ratios.weights("alice", past)
    settled(ratios)
    ratios.weights("alice", more)
    assert ratios._learning is None
    ratios.weights("alice", last)
    settled(ratios)
    both = np.concatenate([past, more, last])
    np.testing.assert_allclose(
        ratios.weights("alice", past), density_weights(fit(TRAINING, both).log_ratio(past))
    )


def test_no_client_changes_what_another_weighs(ratios: Ratios) -> None:
    past, asked = drawn(100), drawn(7, 0.5, 2)
    for client, own in (("bob", past + 9), ("alice", past), ("bob", past - 9)):
        ratios.weights(client, own)
        settled(ratios)
    ratios.weights("carol", past)
    settled(ratios)
    found = ratios.weights("alice", asked)
    np.testing.assert_allclose(found, density_weights(fit(TRAINING, past).log_ratio(asked)))


def test_memory_is_bounded_in_rows_and_in_clients(ratios: Ratios) -> None:
    ratios.weights("c0", drawn(MOST_EXAMPLES + 50))
    settled(ratios)
    assert len(ratios._clients["c0"].past) == MOST_EXAMPLES
    for number in range(1, 3 * MOST_CLIENTS):
        ratios.weights(f"c{number}", drawn(120))
        ratios.weights("c1", drawn(1))
    assert len(ratios._clients) == MOST_CLIENTS
    assert len(ratios._due) <= MOST_CLIENTS
    assert "c0" not in ratios._clients
    assert "c1" in ratios._clients
    # whoever is forgotten begins again
    assert (ratios.weights("c0", drawn(5)) == 1).all()


def test_no_answer_waits_for_what_is_being_learnt_and_one_at_a_time_is(
    ratios: Ratios, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, learnt = threading.Event(), []

    def slow(training: Any, queries: Rows) -> Any:
        assert go.wait(20)
        learnt.append(len(queries))
        return fit(training, queries)

    monkeypatch.setattr(module, "fit", slow)
    for count in (100, 100, 100):
        for client in ("alice", "bob", "carol"):
            assert (ratios.weights(client, drawn(count)) == 1).all()
    assert list(ratios._due) == ["bob", "carol", "alice"]
    go.set()
    for _ in range(3):
        settled(ratios)
        ratios.weights("dave", drawn(1))
    settled(ratios)
    # the first of alice as she was then, the others as they are: longest due first
    assert learnt == [100, 300, 300, 300]


def test_learning_leaves_most_of_the_time_to_the_model_but_a_first_ratio_does_not_wait(
    ratios: Ratios, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = []

    def slow(training: Any, queries: Rows) -> Any:
        learnt.append(len(queries))
        clock.advance(1000)
        return fit(training, queries)

    monkeypatch.setattr(module, "fit", slow)
    for client, rows in (("alice", 100), ("alice", 60), ("bob", 110), ("carol", 120)):
        ratios.weights(client, drawn(rows))
        settled(ratios)
    ratios.weights("carol", drawn(1))
    assert learnt == [100, 110, 120]
    clock.advance(1000 * (RESTS - 0.1))
    ratios.weights("carol", drawn(1))
    settled(ratios)
    assert learnt == [100, 110, 120]
    clock.advance(101)
    ratios.weights("carol", drawn(1))
    settled(ratios)
    assert learnt == [100, 110, 120, 160]


def test_features_that_teach_nothing_leave_what_was_learnt(
    ratios: Ratios, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = drawn(100)
    ratios.weights("alice", past)
    settled(ratios)
    before = ratios.weights("alice", past)  # 100 more: it is learnt again, which fails

    def singular(_training: Any, _queries: Any) -> Any:
        raise np.linalg.LinAlgError

    settled(ratios)
    monkeypatch.setattr(module, "fit", singular)
    middle = ratios.weights("alice", past)
    settled(ratios)
    after = ratios.weights("alice", past)
    np.testing.assert_allclose(after, middle)
    assert not np.allclose(before, 1.0)


def test_no_weight_is_above_the_cap(ratios: Ratios) -> None:
    ratios.weights("alice", drawn(100, -20.0))
    settled(ratios)
    found = ratios.weights("alice", drawn(50, 500.0))
    assert found.max() <= DENSITY_CAP
    assert found.max() > DENSITY_CAP * 0.999
