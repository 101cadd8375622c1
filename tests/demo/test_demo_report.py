"""What the demo prints at its end, for people and for machines."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from fi_stream.demo.report import Accuracy, Alone, Counts, Different, Latency, Level, Report
from fi_stream.demo.table import final_table
from fi_stream.federation.policy import Protection
from fi_stream.privacy.guarantee import Guarantee


def guarantee(per_query: float, total: float) -> Guarantee:
    return Guarantee(
        Protection.TRUSTED, "randomised_response", per_query, total, 0.0, ("aggregator", "client")
    )


REPORT = Report(
    counts=Counts(300, {"complete": 290, "partial": 10, "rejected": 0}, {"late": 3}),
    accuracy=Accuracy(
        federation=0.94,
        noiseless=0.95,
        participants={"p1": Alone(0.625, 200), "p2": Alone(0.875, 300), "p3": Alone(0.5, 100)},
    ),
    latency=Latency(p50=11.25, p99=40.5, first_answer_s=2.75),
    guarantee=guarantee(8.0, 2400.0),
    levels={
        Protection.TRUSTED: Level(300, 0.94, 11.25, 40.5, 6900.4),
        Protection.BLIND: Level(100, 0.92, 12.75, 30.25, 11_500.0),
    },
    broker="embedded",
    different=Different(0.1, 0.7, {"soft": 0.8, "competence_density": 0.9125}),
)

SILENT = replace(
    REPORT,
    counts=Counts(300, {"no_quorum": 300}, {}),
    latency=Latency(None, None, None),
    guarantee=None,
)


def printed(report: Report, width: int = 100, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Console(file=file, width=width).print(final_table(report))
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_json_has_exactly_these_keys() -> None:
    assert json.loads(REPORT.to_json()) == {
        "queries": 300,
        "outcomes": {"complete": 290, "partial": 10, "rejected": 0},
        "accuracy": {
            "federation": 0.94,
            "noiseless": 0.95,
            "best_single": 0.875,
            "participants": {"p1": 0.625, "p2": 0.875, "p3": 0.5},
        },
        "latency_ms": {"p50": 11.25, "p99": 40.5},
        "first_answer_s": 2.75,
        "epsilon": {
            "per_query": 8.0,
            "total": 2400.0,
            "unit": "one participant's whole answer (its model and data)",
            "delta": 0.0,
        },
        "protection": "trusted",
        "protections": {
            "trusted": {
                "queries": 300,
                "accuracy": 0.94,
                "latency_ms": {"p50": 11.25, "p99": 40.5},
                "bytes_of_a_query": 6900.4,
            },
            "blind": {
                "queries": 100,
                "accuracy": 0.92,
                "latency_ms": {"p50": 12.75, "p99": 30.25},
                "bytes_of_a_query": 11_500.0,
            },
        },
        "broker": "embedded",
        "very_different_data": {
            "alpha": 0.1,
            "best_single": 0.7,
            "rules": {"soft": 0.8, "competence_density": 0.9125},
        },
    }
    assert replace(REPORT, different=None).to_dict()["very_different_data"] is None


def test_no_noise_is_the_word_infinite_in_json() -> None:
    bare = json.loads(replace(REPORT, guarantee=guarantee(math.inf, math.inf)).to_json())
    assert bare["epsilon"]["per_query"] == "infinite"
    assert bare["epsilon"]["total"] == "infinite"


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_what_is_not_known_is_null_in_json_and_never_nan(unknown: float | None) -> None:
    report = replace(SILENT, latency=Latency(unknown, unknown, unknown))
    text = report.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    read = json.loads(text)
    assert read["latency_ms"] == {"p50": None, "p99": None}
    assert read["first_answer_s"] is None
    assert read["epsilon"]["per_query"] is None


def test_each_alone_the_best_and_both_federations_are_in_the_table() -> None:
    text = printed(REPORT)
    lines = [line for line in text.splitlines() if "%" in line]
    assert [line.split("%")[0].split() for line in lines[:5]] == [
        ["p1", "alone", "62.5"],
        ["p2", "alone,", "the", "best", "one", "87.5"],
        ["p3", "alone", "50.0"],
        ["all", "3", "together,", "without", "noise", "95.0"],
        ["all", "3", "together,", "noise", "at", "epsilon", "8", "94.0"],
    ]
    assert lines[1].split()[-1] == "300"
    assert lines[3].split()[-1] == "600"


def test_the_table_says_what_very_different_data_would_give_and_that_it_was_computed() -> None:
    text = printed(REPORT)
    assert "very different data, alpha 0.1 (computed, not streamed)" in text
    lines = text[text.index("very different") :].splitlines()
    assert [line.split("%")[0].split() for line in lines if "%" in line][:3] == [
        ["the", "best", "one", "alone", "70.0"],
        ["all", "together,", "soft", "80.0"],
        ["all", "together,", "competence_density", "91.2"],
    ]
    assert "very different" not in printed(replace(REPORT, different=None))


def test_the_table_says_how_fast_how_complete_and_how_private() -> None:
    text = flat(printed(REPORT))
    assert "290 complete (every participant answered or abstained)" in text
    assert "10 partial" in text
    assert "rejected" not in text
    assert "3 late" in text
    assert "within 11 ms (p50)" in text
    assert "within 40 ms (p99)" in text
    assert "2.8 s after the command" in text
    assert flat(guarantee(8.0, 2400.0).sentence) in text
    assert "trusted: participants see the queries" in text


def test_the_table_compares_the_levels_of_protection() -> None:
    lines = printed(REPORT).splitlines()
    rows = [line.split() for line in lines if " ms " in line and "%" in line and "p50" not in line]
    assert rows == [
        ["trusted", "300", "94.0%", "11", "ms", "40", "ms", "6,900", "the", "aggregator"],
        ["blind", "100", "92.0%", "13", "ms", "30", "ms", "11,500", "the", "client"],
    ]


@pytest.mark.parametrize("protection", Protection)
def test_every_level_says_who_sees_what(protection: Protection) -> None:
    """Those that the demo cannot ask under yet, too."""
    only = replace(REPORT, levels={protection: Level(1, 1.0, None, None, None)})
    text = flat(printed(only))
    assert f"{protection}: participants see the queries" in text
    assert only.to_dict()["protection"] == protection.value


def test_without_noise_the_table_claims_none() -> None:
    bare = replace(REPORT, guarantee=guarantee(math.inf, math.inf))
    text = flat(printed(bare))
    assert "all 3 together, as streamed, no noise" in text
    assert "epsilon is infinite" in text
    assert "noise at epsilon" not in text


def test_a_run_without_any_answer_has_a_table_too() -> None:
    text = flat(printed(SILENT))
    assert "no result came" in text
    assert "300 no_quorum (too few answered by the deadline)" in text
    assert "nobody answered" in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_any_terminal(width: int, encoding: str) -> None:
    assert all(len(line) <= width for line in printed(REPORT, width, encoding).splitlines())
