"""Roles as processes: what they say at start, and how they stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from stage import ODD, odd, rows, until

from fi_stream import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage


IN_A_CONTAINER = """\
import sys
from pathlib import Path

from fi_stream.models.threads import cgroup_quota

cgroup_quota.__defaults__ = Path(sys.argv[1], "self"), Path(sys.argv[1], "cgroup")
del sys.argv[1]
from fi_stream.cli import main

main()
"""
"""The command line as where these files, and not this machine's, say what its quota is."""


@contextmanager
def process(
    verb: str, file: Path, log: Path, python: tuple[str, ...] = ("-m", "fi_stream.cli")
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, *python, verb, str(file)], stdout=out, stderr=out
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def said(log: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_role_stops_within_two_seconds_and_says_what_it_did(
    build: Callable[..., Stage], tmp_path: Path, number: signal.Signals
) -> None:
    stage, log, other = build(participants=2), tmp_path / "p1.log", tmp_path / "agg.log"
    with (
        process("participant", stage.file("p1"), log) as participant,
        process("aggregator", stage.file("agg"), other) as aggregator,
    ):
        await until(lambda: said(log, "ready") and said(other, "ready"))
        async with connect(stage.file("alice")) as client:
            assert (await client.ask(rows(1), deadline=1.5)).outcome == "no_quorum"
        begun = time.monotonic()
        for each in (participant, aggregator):
            each.send_signal(number)
        for each in (participant, aggregator):
            assert await asyncio.to_thread(each.wait, 5) == 0
        assert time.monotonic() - begun < 2.0
    [ready] = said(log, "ready")
    assert ready["threads"] == "1 compute thread (threads under [model])"
    assert ready["model"]
    assert [(one["member"], one["answers"]) for one in said(log, "stopped")] == [("p1", 1)]
    assert said(other, "stopped")[0]["outcomes"] == {"no_quorum": 1}


async def test_models_compute_with_as_many_threads_as_the_quota_pays_for(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    """A container with `cpus: 1`, on a host with more."""
    counted, log = tmp_path / "counted", tmp_path / "p1.log"
    pools = "[pool['num_threads'] for pool in __import__('threadpoolctl').threadpool_info()]"
    count = f"__import__('pathlib').Path({str(counted)!r}).write_text(str({pools}))"
    stage = build(models={"p1": count})
    file = stage.file("p1")
    file.write_text(file.read_text().replace("threads = 1\n", ""))
    (tmp_path / "self").write_text("0::/docker/abc\n")
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup" / "cpu.max").write_text("100000 100000\n")
    with process("participant", file, log, ("-c", IN_A_CONTAINER, str(tmp_path))):
        await until(lambda: said(log, "ready"), within=30.0)
    affinity = len(os.sched_getaffinity(0))
    [ready] = said(log, "ready")
    assert ready["threads"] == f"1 compute thread (affinity {affinity}, quota 1)"
    assert set(json.loads(counted.read_text())) == {1}


async def test_a_second_signal_ends_a_role_at_once_whatever_it_is_in(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage, log = build(models={"p1": ODD + "time.sleep(60)"}), tmp_path / "p1.log"
    with process("participant", stage.file("p1"), log) as participant:
        await until(lambda: said(log, "ready"))
        async with connect(stage.file("alice")) as client:
            client.post(odd(1), deadline=5.0)
            await asyncio.sleep(0.3)
            participant.send_signal(signal.SIGTERM)
            await until(lambda: said(log, "stopping"))
            assert participant.poll() is None  # it has an answer in hand
            begun = time.monotonic()
            participant.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(participant.wait, 5) == -signal.SIGINT
            assert time.monotonic() - begun < 1.0


async def test_a_role_that_waits_for_its_broker_says_so_and_stops_when_asked(
    tmp_path: Path,
) -> None:
    stage, log = staging.build(tmp_path / "federation", "127.0.0.1:9"), tmp_path / "agg.log"
    with process("aggregator", stage.file("agg"), log) as aggregator:
        await until(lambda: said(log, "broker.waiting"))
        begun = time.monotonic()
        aggregator.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(aggregator.wait, 5) == 0
        assert time.monotonic() - begun < 2.0
    [waiting, *_] = said(log, "broker.waiting")
    assert waiting["give_up_after"] == 60.0


async def test_a_role_that_cannot_start_says_why_in_one_line_and_which_code(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage, log = build(), tmp_path / "p1.log"
    for key in (stage.directory / "p1" / "keys").iterdir():
        key.chmod(0o644)
    with process("participant", stage.file("p1"), log) as participant:
        assert await asyncio.to_thread(participant.wait, 20) == 3
    lines = log.read_text().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in log.read_text()
