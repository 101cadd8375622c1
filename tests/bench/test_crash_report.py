from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from rich.console import Console

from bench.crash import report
from bench.crash.checker import Column, Fault, Verdict, broken
from bench.crash.cluster import Ran
from bench.crash.history import History, Query, Response, Terms
from bench.crash.schedule import draw

if TYPE_CHECKING:
    from pathlib import Path

LOST = Fault(Column.LOST, "aa", "no result")
LATE = Fault(Column.LATE, "bb", "too late")
GOOD = report.Line(0, False, {"aggregator": 2}, Verdict(100, {"complete": 100}, 3, 40, ()))
BAD = report.Line(
    1,
    True,
    {"aggregator": 1, "broker": 1},
    Verdict(50, {"complete": 45, "partial": 4}, 0, 9_000, (LOST, LATE)),
)


def test_the_document_has_what_the_issue_asks_for() -> None:
    whole = json.loads(json.dumps(report.document([GOOD, BAD], 7, {"cpus": 2})))
    assert whole["schedules"] == 2
    assert whole["kills"] == {"aggregator": 3, "participant": 0, "client": 0, "broker": 1}
    assert whole["queries"] == 150
    found = {column: whole[column] for column in ("lost", "doubled", "late", "contradictions")}
    assert found == {"lost": 1, "doubled": 0, "late": 1, "contradictions": 0}
    assert (whole["repeats"], whole["worst_ms"], whole["seed"]) == (3, 9_000, 7)
    assert whole["outcomes"] == {"complete": 145, "partial": 4}
    assert [failed["schedule"] for failed in whole["failed"]] == [1]
    assert [fault["query"] for fault in whole["failed"][0]["faults"]] == ["aa", "bb"]


def test_the_table_has_a_row_for_each_failed_schedule_and_one_for_all() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(report.table([GOOD, BAD]))
    rows = [line.split("│") for line in out.getvalue().splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == ["1", "all 2"]
    assert [cell.strip() for cell in rows[1][2:7]] == ["3", "0", "0", "1", "150"]


def test_complaints_name_schedule_and_query() -> None:
    said = report.complaints([GOOD, BAD])
    assert len(said) == 2
    assert "schedule 1" in said[0]
    assert "aa" in said[0]


def test_a_schedule_that_could_not_run_fails() -> None:
    line = report.Line(4, False, {}, broken("a1 ended by itself"))
    assert report.document([line], 1, {})["contradictions"] == 1


def test_a_trace_holds_only_what_concerns_the_bad_queries(tmp_path: Path) -> None:
    queries = (Query("aa", "d", 1, 2), Query("cc", "d", 1, 2))
    responses = (Response("aa", "d", "p1", 1, 0), Response("cc", "d", "p1", 1, 0))
    history = History(queries, responses, (), (), 9)
    ran = Ran(history, Terms(("p1",), 1, 10, 5), {}, {})
    logs = {"a1.0": ["a line"]}
    file = report.write_trace(tmp_path / "new", draw(3, 5), BAD.verdict, logs, ran)
    trace = json.loads(file.read_text("utf-8"))
    assert (trace["schedule"]["seed"], trace["schedule"]["number"]) == (3, 5)
    assert [query["id"] for query in trace["queries"]] == ["aa"]
    assert [response["query"] for response in trace["responses"]] == ["aa"]
    assert trace["logs"] == logs


def test_a_schedule_that_could_not_run_leaves_its_trace_too(tmp_path: Path) -> None:
    logs = {"a1.0": ["why it ended"]}
    file = report.write_trace(tmp_path, draw(3, 5), broken("a1 ended by itself"), logs)
    trace = json.loads(file.read_text("utf-8"))
    assert trace["verdict"]["faults"][0]["what"] == "a1 ended by itself"
    assert trace["logs"] == logs
