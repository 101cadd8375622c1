"""`fi-stream load` against a federation that answers, and against none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fi_stream.roles.runtime import GRACE, LEAVE

FI_STREAM = Path(sys.executable).parent / "fi-stream"


def load(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(FI_STREAM), "load", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_for_a_query(file: Path) -> None:
    command = [str(FI_STREAM), "tail", "fi.queries", "--config", str(file), "--limit", "1"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [number for value in found.values() for number in numbers(value)]
    return [found]


def test_a_federation_that_keeps_up_completes_every_query(
    client_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "load.json"
    options = ["--rate", "50", "--duration", "2", "--clients", "2", "--deadline", "5"]
    ended = load(client_file, *options, "--json", out)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(out.read_text("utf-8"))
    assert list(report) == [
        "rate",
        "duration_s",
        "clients",
        "sent",
        "not_sent",
        "outcomes",
        "latency_ms",
        "send_lag_ms",
        "queries_per_s",
    ]
    assert (report["rate"], report["clients"], report["not_sent"]) == (50, 2, 0)
    outcomes = report["outcomes"]
    assert set(outcomes) <= {"complete", "decided"}
    assert sum(outcomes.values()) == report["sent"]
    assert 60 < report["sent"] < 140
    assert 2 <= report["duration_s"] < 3
    latency, lag = list(report["latency_ms"].values()), list(report["send_lag_ms"].values())
    assert list(report["latency_ms"]) == ["p50", "p90", "p99", "p999", "max"]
    assert latency[0] > 0
    assert latency == sorted(latency)
    assert 0 <= lag[0] <= lag[1]
    assert all(f"{outcome} {count}" in ended.stdout for outcome, count in outcomes.items())


def test_rows_are_read_from_a_file_and_asked_with_a_rule(client_file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("5.1,3.5,1.4,0.2\n6.4,2.8,5.5,2.0\n", "utf-8")
    options = ["--rate", "40", "--duration", "0.5", "--deadline", "5"]
    ended = load(client_file, *options, "--rows", rows, "--rule", "hard")
    assert ended.returncode == 0, ended.stderr
    assert "complete" in ended.stdout or "decided" in ended.stdout
    refused = load(client_file, *options, "--rule", "median")
    assert refused.returncode == 8
    assert "median" in refused.stderr


def test_with_nobody_there_it_says_unknown_and_fails(unanswered_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    options = ["--rate", "40", "--duration", "0.5", "--deadline", "0.2", "--json", out]
    ended = load(unanswered_file, *options)
    assert ended.returncode == 9
    report = json.loads(out.read_text("utf-8"))
    assert "NaN" not in out.read_text("utf-8")
    assert report["outcomes"] == {"unknown": report["sent"]}
    assert numbers(report["latency_ms"]) == [None] * 5
    assert f"unknown {report['sent']}" in ended.stdout


def test_ctrl_c_ends_early_and_still_prints(unanswered_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    command = [str(FI_STREAM), "load", str(unanswered_file), "--rate", "40", "--duration", "600"]
    command += ["--deadline", "0.2", "--json", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            wait_for_a_query(unanswered_file)
            running.send_signal(signal.SIGINT)
            printed, said = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 9, said
    report = json.loads(out.read_text("utf-8"))
    assert 0 < report["duration_s"] < 30
    assert report["outcomes"] == {"unknown": report["sent"]}
    assert b"queries/s" in printed


def test_what_is_in_flight_is_waited_for_no_longer_than_the_grace_time(
    unanswered_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "load.json"
    command = [str(FI_STREAM), "load", str(unanswered_file), "--rate", "40", "--duration", "600"]
    command += ["--deadline", "30", "--json", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            wait_for_a_query(unanswered_file)
            running.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            printed, said = running.communicate(timeout=30)
            assert GRACE - 1 < time.monotonic() - begun < GRACE + LEAVE + 1
        finally:
            running.kill()
    assert running.returncode == 10, said
    assert json.loads(out.read_text("utf-8"))["sent"] > 0
    assert b"queries/s" in printed


def test_a_place_for_the_json_that_is_not_there_is_refused_before_anything_is_sent(
    unanswered_file: Path, tmp_path: Path
) -> None:
    options = ["--rate", "1", "--duration", "600", "--json", tmp_path / "no" / "load.json"]
    ended = load(unanswered_file, *options)
    assert ended.returncode == 3
    assert "--json" in ended.stderr
