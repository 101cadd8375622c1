"""What a load test reports: true percentiles, whole counts, and never NaN."""

from __future__ import annotations

import json
import sys
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Outcome
from fi_stream.roles.load_meter import UNKNOWN, Histogram, Meter

SECONDS = st.floats(0, 600, allow_nan=False)
SETTLED = st.tuples(st.sampled_from([*Outcome, None]), SECONDS)


@settings(max_examples=30)  # each makes two large histograms
@given(times=st.lists(SECONDS, min_size=1, max_size=200), percentile=st.integers(1, 100))
def test_a_percentile_is_the_time_of_that_rank_to_three_digits(
    times: list[float], percentile: int
) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.record(seconds)
    ((name, millis),) = histogram.millis([percentile]).items()
    ranked = sorted(times)
    # Just above and just below the rank, since half a query belongs to either side.
    low = ranked[max(0, ceil(percentile / 100 * len(times) - 0.51) - 1)] * 1000
    high = ranked[min(len(times), ceil(percentile / 100 * len(times) + 0.51)) - 1] * 1000
    assert name == f"p{percentile}"
    assert low * 0.998 - 0.001 <= millis <= high * 1.002 + 0.001


@settings(max_examples=30)  # each makes two large histograms
@given(times=st.lists(st.floats(-10, 1e9, allow_nan=False), min_size=1, max_size=20))
def test_no_time_is_lost_however_long_or_short(times: list[float]) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.record(seconds)
    most = min(max(0.0, *times, 0.0), 3600) * 1000
    assert most * 0.998 - 0.001 <= histogram.longest_ms() <= most * 1.002 + 0.001


@settings(max_examples=30)  # each makes two large histograms
@given(settled=st.lists(SETTLED, max_size=50), unsettled=st.integers(0, 5))
def test_every_query_is_counted_once(
    settled: list[tuple[Outcome | None, float]], unsettled: int
) -> None:
    meter = Meter()
    for outcome, latency in settled:
        meter.sent_one(0.0)
        meter.settled(outcome, latency)
    for _ in range(unsettled):
        meter.sent_one(0.0)
    report = meter.report(10, 1)
    assert report["sent"] == len(settled) + unsettled
    assert sum(report["outcomes"].values()) == len(settled)
    assert report["outcomes"].get(UNKNOWN, 0) == sum(outcome is None for outcome, _ in settled)
    assert meter.in_flight == unsettled
    assert meter.answered == sum(outcome is not None for outcome, _ in settled)


def test_a_query_without_a_result_has_no_latency() -> None:
    meter = Meter()
    meter.sent_one(0.0)
    meter.settled(None, 1.1)
    assert set(meter.report(10, 1)["latency_ms"].values()) == {None}


def test_what_is_not_known_is_null() -> None:
    report = Meter().report(50, 2)
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == {
        "rate": 50,
        "duration_s": 0.0,
        "clients": 2,
        "sent": 0,
        "not_sent": 0,
        "outcomes": {},
        "latency_ms": dict.fromkeys(["p50", "p90", "p99", "p999", "max"]),
        "send_lag_ms": dict.fromkeys(["p50", "p99"]),
        "queries_per_s": None,
    }


def test_without_the_extra_a_person_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    with pytest.raises(ConfigError, match=r"pip install 'fi-stream\[load\]'"):
        Meter()
