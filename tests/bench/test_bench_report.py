from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench import docs, report
from bench.costs import Step
from bench.load import Light, Peak
from bench.rounds import BenchFailed, Measured, check

if TYPE_CHECKING:
    from pathlib import Path


def light(p50: float, *, right: int = 200, wrong: int = 0, lost: int = 0) -> Light:
    return Light(p50, 2 * p50, right, wrong, lost)


def peak(window: int, rate: float, *, right: int = 1000, wrong: int = 0, lost: int = 0) -> Peak:
    return Peak(window, rate, 100.0, right, wrong, lost)


def rounds(p50: float, rate: float) -> list[Measured]:
    # Two windows a round; the rounds scatter around what was asked for.
    return [
        Measured(light(p50 * noise), (peak(256, rate * noise / 2), peak(1024, rate * noise)))
        for noise in (1.5, 1.0, 0.8)
    ]


FOUND = {
    "bare": rounds(4.0, 20_000),
    "faststream": rounds(10.0, 500),
    "sealed": rounds(5.0, 10_000),
    "noised": rounds(8.0, 4_000),
}


def test_a_pipeline_is_the_median_of_its_rounds_and_of_each_its_best_window() -> None:
    found = report.figures(FOUND["bare"])
    assert (found.p50, found.p99, found.rate, found.window) == (4.0, 8.0, 20_000, 1024)


def test_ratios_are_met_on_the_right_side_of_their_targets() -> None:
    found = {name: report.figures(measured) for name, measured in FOUND.items()}
    by_name = {ratio.name: ratio for ratio in report.ratios(found)}
    assert by_name["sealed p50 / bare p50"].value == pytest.approx(1.25)
    assert by_name["sealed p50 / bare p50"].met
    assert not by_name["noised p50 / bare p50"].met
    assert by_name["sealed rate / bare rate"].met
    assert not by_name["noised rate / bare rate"].met
    assert by_name["sealed rate / FastStream rate"].value == pytest.approx(20.0)


def test_the_document_is_json_and_holds_what_the_tables_show() -> None:
    steps = [Step("client", "seal", 30.0, 1 / 3), Step("aggregator", "join", 20.0, 1)]
    document = json.loads(json.dumps(report.document(FOUND, steps, {"cpus": 2}), allow_nan=False))
    assert document["pipelines"].keys() == FOUND.keys()
    assert document["cost_us"]["per_response"] == pytest.approx(30.0)
    console = Console(file=io.StringIO(), width=120)
    report.show(console, {name: report.figures(each) for name, each in FOUND.items()})
    report.show_costs(console, steps)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("FastStream, in the clear", "20,000", "missed", "30.0"):
        assert words in shown


@pytest.mark.parametrize(
    "measured",
    [
        Measured(light(5.0, wrong=1), (peak(256, 10.0),)),
        Measured(light(5.0), (peak(256, 10.0, lost=1),)),
        Measured(light(5.0, right=0), (peak(256, 10.0),)),
    ],
)
def test_a_fast_but_wrong_pipeline_fails(measured: Measured) -> None:
    with pytest.raises(BenchFailed, match="sealed: "):
        check("sealed", measured)


def test_noise_may_change_a_label_now_and_then() -> None:
    check("noised", Measured(light(5.0), (peak(256, 10.0, right=995, wrong=5),)))
    with pytest.raises(BenchFailed):
        check("noised", Measured(light(5.0), (peak(256, 10.0, right=980, wrong=20),)))


def test_results_in_the_docs_replace_the_last_ones_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(docs.PAGE.read_text("utf-8"), "utf-8")
    found = {name: report.figures(each) for name, each in FOUND.items()}
    steps = [Step("client", "seal", 30.0, 1 / 3)]
    docs.write(found, steps, {"cpus": 2}, page)
    once = page.read_text("utf-8")
    docs.write(found, steps, {"cpus": 2}, page)
    assert page.read_text("utf-8") == once
    assert "| sealed rate / bare rate | 0.50 | >= 0.5 | met |" in once
    assert once.startswith("# Benchmarks")
    assert once.count("## Results") == 1
