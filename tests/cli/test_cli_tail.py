"""`fi-stream tail` shows what anybody may see, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import stage as staging

from fi_stream import connect
from fi_stream.events.header import Reply
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from pathlib import Path

CANARY = 1234.5625
EVERYONE = ("agg", "p1", "p2", "p3")


async def tail(*words: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fi_stream.cli", "tail", *map(str, words),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_headers_of_every_topic_are_shown_and_no_payload(tmp_path: Path) -> None:
    async with staging.at_work(tmp_path / "federation", *EVERYONE) as stage:
        async with connect(stage.file("alice")) as client:
            row = np.full(4, CANARY, dtype=np.float32)
            result = await client.ask(row, deadline=10.0)
        canaries = (row.tobytes().hex(), str(CANARY), "bird", "label")
        config = ("--config", stage.file("bob"), "--from-beginning")
        for topic, count, kind in (
            ("fi.queries", 1, "query"),
            ("fi.responses", 3, "response"),
            ("fi.results", 1, "result"),
            ("fi.keys", 6, "grant"),
        ):
            plain = await tail(topic, *config, "--limit", str(count), "--json")
            lines = [json.loads(line) for line in plain.splitlines()]
            assert [line["header"]["type"] for line in lines] == [kind] * count
            assert {line["topic"] for line in lines} == {topic}
            if topic != "fi.keys":
                assert {line["header"]["query"] for line in lines} == {result.query_id}
            assert not any(canary in plain for canary in canaries)
        words = await tail("fi.responses", *config, "--limit", "3")
        assert words.count("type=response") == 3
        assert not any(canary in words for canary in canaries)


async def test_what_is_no_event_is_named_and_what_steers_a_terminal_is_escaped(
    tmp_path: Path,
) -> None:
    async with (
        staging.at_work(tmp_path / "federation") as stage,
        stage.wire("p1", Role.PARTICIPANT) as wire,
    ):
        await wire.put("fi.responses", 2, b"\xdc\xff\xff" * 20)
        reply = Reply(client="alice", digest=bytes(32), kind="abstain", model="\x1b[2Jm")
        sealed = wire.keys.own.find().seal(wire.ask(), reply, b"payload")
        await wire.put("fi.responses", 2, sealed.value)
        config = ("fi.responses", "--config", stage.file("bob"), "--from-beginning", "--limit", "2")
        refused, hostile = map(json.loads, (await tail(*config, "--json")).splitlines())
        assert refused["refused"] == "malformed"
        assert hostile["header"]["model"] == "\x1b[2Jm"
        words = await tail(*config)
        assert "\x1b" not in words
        assert "payload" not in words
