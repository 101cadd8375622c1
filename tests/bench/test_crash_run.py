"""The harness itself, on an Apache Kafka that it kills: promises are kept, and looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fi_stream.transport.apache import missing

ROOT = Path(__file__).parents[2]
SCHEDULES = 15
SUMS = 3
BLIND = 2

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(missing() is not None, reason=f"no Apache Kafka: {missing()}"),
    pytest.mark.timeout(600),  # it says so itself, much earlier, when something hangs
]


def crash(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.crash", *words]
    if "--planted" not in words:
        command += ["--bound", "15"]  # the other half of the tests runs beside it
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_schedule_of_kills_breaks_a_promise(tmp_path: Path) -> None:
    file = tmp_path / "crash.json"
    ended = crash("--schedules", str(SCHEDULES), "--json", str(file), "--traces", str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    whole = json.loads(file.read_text("utf-8"))
    assert whole["schedules"] == SCHEDULES
    assert all(whole["kills"].values()), whole["kills"]
    assert whole["queries"] > 50 * SCHEDULES
    for column in ("lost", "doubled", "late", "contradictions"):
        assert whole[column] == 0


def test_no_schedule_of_kills_breaks_a_promise_of_secure_sums(tmp_path: Path) -> None:
    """The same, and no second set of any query is ever opened, nor a label that nobody gave."""
    file = tmp_path / "crash.json"
    many = ("--protection", "secagg", "--schedules", str(SUMS))
    ended = crash(*many, "--json", str(file), "--traces", str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    whole = json.loads(file.read_text("utf-8"))
    assert whole["schedules"] == SUMS
    assert whole["kills"]["helper"]
    assert whole["outcomes"].get("complete", 0) > 5 * SUMS
    for column in ("lost", "doubled", "late", "second_sets", "contradictions"):
        assert whole[column] == 0


def test_no_schedule_of_kills_breaks_a_promise_of_blind_queries(tmp_path: Path) -> None:
    file = tmp_path / "crash.json"
    many = ("--protection", "blind", "--schedules", str(BLIND))
    ended = crash(*many, "--json", str(file), "--traces", str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    whole = json.loads(file.read_text("utf-8"))
    assert whole["schedules"] == BLIND
    assert whole["kills"]["aggregator"]
    assert whole["outcomes"].get("complete", 0) > 5 * BLIND
    for column in ("lost", "doubled", "late", "contradictions"):
        assert whole[column] == 0


def test_every_planted_fault_is_found_in_a_real_run() -> None:
    ended = crash("--planted")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "not found" not in ended.stdout
    assert len(ended.stdout.splitlines()) == 5
