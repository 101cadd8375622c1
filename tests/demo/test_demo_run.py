"""The demo as a person runs it: its report, and that nothing of it is left behind."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEMO = [sys.executable, "-m", "fi_stream.cli", "demo", "--participants", "3"]
FIELDS = {
    "queries",
    "outcomes",
    "accuracy",
    "latency_ms",
    "first_answer_s",
    "epsilon",
    "protection",
    "protections",
    "broker",
    "very_different_data",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are kept, so that they are trained once for all tests here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the demo puts its files while it runs."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@contextmanager
def demo(cache: Path, scratch: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(scratch)}
    started = subprocess.Popen(
        [*DEMO, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
        for left in of_the_demo(scratch):
            os.kill(left, signal.SIGKILL)


def of_the_demo(scratch: Path) -> list[int]:
    """The processes that are still there of a demo with these files."""
    mark = f"TMPDIR={scratch}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # ended meanwhile, or somebody else's
        if mark in environment and state != "Z":
            found.append(int(process.name))
    return found


def files_of_the_demo(scratch: Path) -> list[Path]:
    return list(scratch.glob("fi_stream-*"))  # torch keeps a cache of its own beside them


def wait_until(true: Callable[[], Any], within: float = 60.0) -> None:
    ends = time.monotonic() + within
    while not true():
        assert time.monotonic() < ends, "it never became so"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "per_query"),
    [
        ((None, "8"), 8.0),
        (("blind", "8"), 8.0),
        (("secagg", "8"), 8.0),
        ((None, "inf"), "infinite"),
    ],
)
def test_the_report_has_what_was_promised_and_nothing_stays(
    cache: Path, scratch: Path, tmp_path: Path, how: tuple[str | None, str], per_query: object
) -> None:
    file = tmp_path / "report.json"
    protection, epsilon = how
    words = ("--queries", "20", "--epsilon", epsilon, "--json", str(file))
    words += () if protection is None else ("--protection", protection)
    with demo(cache, scratch, *words) as process:
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0, printed
    report = json.loads(file.read_text())
    assert set(report) == FIELDS
    assert report["queries"] == sum(report["outcomes"].values()) == 20
    assert report["outcomes"].get("complete", 0) + report["outcomes"].get("decided", 0) >= 18
    assert set(report["accuracy"]) == {"federation", "noiseless", "best_single", "participants"}
    assert set(report["accuracy"]["participants"]) == {"p1", "p2", "p3"}
    assert set(report["latency_ms"]) == {"p50", "p99"}
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert 0 < report["first_answer_s"] < 60
    assert set(report["epsilon"]) == {"per_query", "total", "unit", "delta"}
    total = report["epsilon"]["total"]
    if per_query == "infinite":
        assert report["epsilon"]["per_query"] == total == "infinite"
    else:
        assert math.isclose(report["epsilon"]["per_query"], per_query, rel_tol=1e-6)
        if protection == "secagg":
            assert 8 < total < 20 * 8  # Gaussian noise adds up to less
        else:
            assert math.isclose(total, 20 * per_query)
    assert report["protection"] == (protection or "trusted")
    one_federation = {"trusted", "blind"} if epsilon == "8" else {"trusted", "blind", "secagg"}
    compared = {"trusted", "blind", "secagg"} if protection else one_federation
    assert set(report["protections"]) == compared
    sizes = {each: level["bytes_of_a_query"] for each, level in report["protections"].items()}
    assert 2000 < sizes["trusted"] < sizes["blind"]  # the responses are in the result again
    assert sizes["trusted"] < sizes.get("secagg", 10_000)
    if epsilon == "inf":
        exact = report["accuracy"]["noiseless"] - 0.1  # two may come too late
        assert all(level["accuracy"] >= exact for level in report["protections"].values())
    assert "alone, the best one" in printed
    assert set(report["very_different_data"]["rules"]) == {"soft", "competence_density"}
    assert "Traceback" not in printed
    assert of_the_demo(scratch) == []
    assert files_of_the_demo(scratch) == []


def roles_started(scratch: Path) -> bool:
    return any(scratch.glob("fi_stream-demo-*/*/p3.log"))


def ready(scratch: Path) -> bool:
    logs = list(scratch.glob("fi_stream-demo-*/*/*.log"))
    return sum('"ready"' in log.read_text() for log in logs) == 4


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "broker started": lambda scratch: any(scratch.glob("fi_stream-demo-*/broker.out")),
    "files written": lambda scratch: any(scratch.glob("fi_stream-demo-*/*/federation.toml")),
    "roles started": roles_started,
    "streaming": ready,
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("broker started", signal.SIGINT),
        ("files written", signal.SIGTERM),
        ("roles started", signal.SIGINT),
        ("streaming", signal.SIGINT),
        ("streaming", signal.SIGTERM),
    ],
)
def test_stopped_at_any_moment_it_leaves_no_process_and_no_file(
    cache: Path, scratch: Path, moment: str, number: signal.Signals
) -> None:
    with demo(cache, scratch, "--queries", "100000") as process:
        wait_until(lambda: MOMENTS[moment](scratch))
        if moment == "streaming":
            time.sleep(0.5)
        begun = time.monotonic()
        process.send_signal(number)
        printed, _ = process.communicate(timeout=20)
        assert time.monotonic() - begun < 4.0  # nobody had to be killed, which takes 5 s
        assert process.returncode == 130, printed
        assert "Traceback" not in printed
        assert of_the_demo(scratch) == []
        assert files_of_the_demo(scratch) == []


def test_stopped_while_it_trains_it_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    with demo(tmp_path / "no models here", scratch, "--queries", "100000") as process:
        assert process.stdout is not None
        assert "trains on its own digits" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in printed
        assert of_the_demo(scratch) == []
        assert files_of_the_demo(scratch) == []


def test_an_impatient_ctrl_c_twice_leaves_nothing_either(cache: Path, scratch: Path) -> None:
    with demo(cache, scratch, "--queries", "100000") as process:
        wait_until(lambda: ready(scratch))
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        process.communicate(timeout=20)
        assert process.returncode != 0
        assert of_the_demo(scratch) == []
        assert files_of_the_demo(scratch) == []


def test_a_level_that_the_demo_has_not_is_refused_before_anything_starts(
    cache: Path, scratch: Path
) -> None:
    for words, why in (
        (("--protection", "mpc"), "--protection mpc is no level: use trusted, blind, secagg"),
        (("--protection", "secagg", "--participants", "1"), "set --participants to 2 or more"),
    ):
        with demo(cache, scratch, *words) as process:
            printed, _ = process.communicate(timeout=60)
            assert process.returncode == 3, printed
        assert why in printed.replace("\n", " ")
        assert files_of_the_demo(scratch) == []
