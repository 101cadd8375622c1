"""Numbers as Prometheus reads them: closed labels, buckets that add up, nothing of a payload."""

from __future__ import annotations

import re
import time
import timeit
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.roles.metrics import BOUNDS, FAMILIES, PREFIX, Board, Kind, Latency
from fi_stream.roles.tally import Tally

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def read(board: Board) -> dict[str, Metric]:
    families = text_string_to_metric_families(board.page().decode())
    return {family.name.removeprefix(PREFIX): family for family in families}


def values(metric: Metric) -> dict[str, float]:
    return {
        "".join(sample.labels.values()): sample.value
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.floats(0, 100)))
def test_each_bucket_holds_all_that_took_at_most_so_long(seconds: list[float]) -> None:
    latency = Latency()
    for each in seconds:
        latency.took(each)
    buckets = latency.buckets()
    assert [float(end) for end, _ in buckets] == [*BOUNDS, float("inf")]
    for end, count in buckets:
        assert count == sum(each <= float(end) for each in seconds)
    assert latency.total == pytest.approx(sum(seconds))


def test_a_latency_below_nothing_between_two_clocks_takes_nothing_away() -> None:
    latency = Latency()
    latency.took(-0.5)
    assert latency.total == 0
    assert latency.buckets()[0] == ("0.001", 1)


def test_counting_costs_less_than_a_microsecond() -> None:
    latency = Latency()
    best = min(
        timeit.repeat(lambda: latency.took(0.013), time.process_time, number=10_000, repeat=20)
    )
    assert best / 10_000 < 1e-6


def test_every_reason_and_outcome_is_there_from_the_start() -> None:
    board = Board({"member": "p1"})
    board.show_each("refusals", Counter)
    board.show_each("outcomes", Counter)
    page = read(board)
    assert values(page["refusals"]) == dict.fromkeys(map(str, Reason), 0)
    assert values(page["outcomes"]) == dict.fromkeys(map(str, Outcome), 0)


def test_a_label_that_is_on_no_list_is_not_shown() -> None:
    board = Board({"member": "p1"})
    board.show_each("refusals", lambda: {"late": 2, "secret-of-a-payload": 1})
    assert values(read(board)["refusals"])["late"] == 2
    assert b"secret-of-a-payload" not in board.page()


def test_what_the_tally_counts_is_what_is_shown_at_the_time_of_asking() -> None:
    board, tally = Board({"member": "p1"}), Tally("participant")
    board.show_each("refusals", tally.counts)
    for _ in range(3):
        tally.refused(Refusal(Reason.LATE, "detail"))
    assert values(read(board)["refusals"])["late"] == 3
    tally.refused(Refusal(Reason.LATE))
    assert values(read(board)["refusals"])["late"] == 4


def test_every_family_can_be_shown_and_says_what_it_is() -> None:
    board = Board({"member": "p1", "role": "participant"})
    for name, family in FAMILIES.items():
        if family.kind is Kind.HISTOGRAM:
            latency = Latency()
            latency.took(0.03)
            board.show_latency(name, latency)
        elif family.label:
            board.show_each(name, lambda family=family: dict.fromkeys(family.values, 5))
        else:
            board.show(name, lambda: 5)
    page = read(board)
    assert page.keys() >= FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert page[name].documentation == family.what
        assert page[name].type == family.kind
        assert re.fullmatch(r"[a-z_]+", name)
    topics = ("fi.queries", "fi.responses", "fi.proposals", "fi.results")
    assert values(page["lag_records"]) == dict.fromkeys(topics, 5)
    [info] = page["process_info"].samples
    assert info.labels == {"member": "p1", "role": "participant"}


def test_a_gauge_that_nobody_can_tell_now_is_absent_not_zero() -> None:
    board = Board({"member": "p1"})
    board.show_each("lag_records", lambda: {"fi.queries": 1})
    assert values(read(board)["lag_records"]) == {"fi.queries": 1}
