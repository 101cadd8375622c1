"""The open loop: arrivals do not wait for answers, and each is sent and settled, or counted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import QueryError
from fi_stream.roles.load import Plan, arrivals, run_load
from fi_stream.roles.load_meter import UNKNOWN, Meter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = Plan(rate=100, duration=0.5, clients=1, deadline=0.2, rule=None, in_flight=1000, seed=7)
ROWS = [np.zeros(4, dtype=np.float32)]


class _Stalling(list[Any]):
    """Rows that hold the whole process up, once, as a busy machine does."""

    def __iter__(self) -> Iterator[Any]:
        for number in range(1000):
            if number == 20:
                time.sleep(1.5)
            yield ROWS[0]


async def load(file: Path, plan: Plan, stop: asyncio.Event | None = None) -> Meter:
    meter = Meter()
    await run_load(file, plan, ROWS, meter, stop or asyncio.Event())
    return meter


@given(rate=st.floats(0.01, 1000), duration=st.floats(0.01, 2), seed=st.integers(-(2**63), 2**63))
def test_arrivals_ascend_within_the_duration_and_a_seed_names_them(
    rate: float, duration: float, seed: int
) -> None:
    plan = replace(PLAN, rate=rate, duration=duration, seed=seed)
    times = list(arrivals(plan))
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(0 < at < duration for at in times)
    assert times == list(arrivals(plan))


def test_arrivals_are_a_poisson_process() -> None:
    times = np.array(list(arrivals(replace(PLAN, rate=200, duration=500))))
    gaps = np.diff(times)
    counts = np.bincount(times.astype(int), minlength=500)
    assert abs(gaps.mean() * 200 - 1) < 0.02
    assert abs(gaps.std() / gaps.mean() - 1) < 0.02  # exponential: as large as the mean
    assert 0.8 < counts.var() / counts.mean() < 1.2  # Poisson: equal


async def test_without_answers_every_arrival_is_still_sent_on_time(unanswered_file: Path) -> None:
    meter = await load(unanswered_file, PLAN)
    assert meter.sent == len(list(arrivals(PLAN)))
    assert meter.outcomes == {UNKNOWN: meter.sent}
    assert meter.in_flight == 0
    assert PLAN.duration <= meter.seconds < 2 * PLAN.duration


async def test_beyond_the_limit_arrivals_are_counted_and_not_sent(unanswered_file: Path) -> None:
    plan = replace(PLAN, in_flight=5, deadline=2.0)
    meter = await load(unanswered_file, plan)
    assert meter.sent == 5
    assert meter.not_sent == len(list(arrivals(plan))) - 5


async def test_a_sender_that_cannot_keep_up_leaves_nothing_out_and_says_so(
    unanswered_file: Path,
) -> None:
    plan = replace(PLAN, rate=200_000, duration=0.05, in_flight=1_000_000)
    meter = await load(unanswered_file, plan)
    assert meter.sent == len(list(arrivals(plan)))
    report = meter.report(plan.rate, plan.clients)
    assert report["send_lag_ms"]["p99"] > 20
    assert report["queries_per_s"] < plan.rate / 2


async def test_what_a_stalled_client_kept_waiting_is_in_the_latency(client_file: Path) -> None:
    plan = replace(PLAN, duration=2.0, deadline=10.0)
    await load(client_file, replace(plan, duration=0.1))
    meter = Meter()
    await run_load(client_file, plan, _Stalling(), meter, asyncio.Event())
    report = meter.report(plan.rate, plan.clients)
    assert set(report["outcomes"]) <= {"complete", "decided"}
    assert sum(report["outcomes"].values()) == report["sent"]
    # Three in four queries were due during the stall, a second and a half long.
    assert report["latency_ms"]["p50"] > 500
    assert report["send_lag_ms"]["p50"] > 300


async def test_asked_to_stop_it_sends_no_more_and_waits_for_what_is_in_flight(
    unanswered_file: Path,
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stop.set)
    plan = replace(PLAN, duration=60.0)
    async with asyncio.timeout(20):
        meter = await load(unanswered_file, plan, stop)
    assert 0 < meter.sent < len(list(arrivals(plan)))
    assert meter.outcomes == {UNKNOWN: meter.sent}
    assert meter.seconds < 20


async def test_a_row_that_fits_no_query_ends_the_test(unanswered_file: Path) -> None:
    meter = Meter()
    refused = 0
    try:
        await run_load(unanswered_file, PLAN, [np.zeros(5)], meter, asyncio.Event())
    except* QueryError as group:
        refused = len(group.exceptions)
    assert refused == 1
    assert meter.sent == 0
