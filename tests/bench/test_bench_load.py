from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench import job, load
from bench.load import Answers, Plan

PLAN = Plan(rate=200.0, light_seconds=0.1, windows=(8,), peak_seconds=0.1)


class Echo:
    """A pipeline without a broker: answers at the next turn of the loop, or as it is told."""

    def __init__(self, answers: Answers, *, wrong_every: int = 0, silent_every: int = 0) -> None:
        self._answers = answers
        self._wrong_every = wrong_every
        self._silent_every = silent_every
        self._posted = 0
        self.most_in_flight = 0

    def post(self, row: Any, token: int) -> None:
        self._posted += 1
        self.most_in_flight = max(self.most_in_flight, self._answers.in_flight)
        if self._silent_every and self._posted % self._silent_every == 0:
            return
        label = int(job.model(1).probabilities(row[None]).argmax())
        if self._wrong_every and self._posted % self._wrong_every == 0:
            label = (label + 1) % job.CLASSES
        asyncio.get_running_loop().call_soon(self._answers.take, token, label)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "RAMP", 0.05)
    monkeypatch.setattr(load, "DRAIN_WITHIN", 0.05)


async def test_every_row_has_one_label_that_all_participants_give() -> None:
    asked = job.questions()
    assert asked.rows.shape == (job.ROWS, job.NUMBERS)
    assert asked.rows[0].nbytes == 256
    for number in job.participants():
        said = job.model(number).probabilities(asked.rows).argmax(axis=1)
        assert tuple(said) == asked.labels
    assert len(set(asked.labels)) == job.CLASSES


async def test_a_correct_pipeline_loses_nothing_and_gets_nothing_wrong() -> None:
    found = Answers()
    measured = await load.run(PLAN, Echo(found), found)
    for part in (measured["light"], *measured["peaks"]):
        assert part["right"] > 0
        assert part["wrong"] == part["lost"] == 0
    assert measured["light"]["right"] == 20


async def test_wrong_labels_are_counted_as_wrong_and_not_as_rate() -> None:
    found = Answers()
    measured = await load.run(PLAN, Echo(found, wrong_every=2), found)
    peak = measured["peaks"][0]
    assert abs(peak["right"] - peak["wrong"]) <= 8
    assert measured["light"]["wrong"] == 10


async def test_results_that_never_come_are_lost() -> None:
    found = Answers()
    measured = await load.run(PLAN, Echo(found, silent_every=5), found)
    assert measured["light"]["lost"] == 4
    assert measured["peaks"][0]["lost"] > 0


async def test_a_copy_of_a_result_counts_once() -> None:
    found = Answers()
    _, token = found.expect(0.0)
    label = job.questions().labels[0]
    found.take(token, label)
    found.take(token, label)
    assert (found.right, found.wrong, found.in_flight) == (1, 0, 0)


async def test_the_window_bounds_what_is_in_flight() -> None:
    found = Answers()
    echo = Echo(found)
    await load.run(PLAN, echo, found)
    assert 0 < echo.most_in_flight <= max(*PLAN.windows, 20)


async def test_latency_counts_from_the_intended_time() -> None:
    found = Answers()
    early = asyncio.get_running_loop().time() - 1.0
    _, token = found.expect(early)
    found.take(token, None)
    assert 1.0 <= found.latencies[0] < 2.0
    assert found.wrong == 1
