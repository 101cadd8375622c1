"""What is in hand when a process is asked to stop: finished, handed over, or given up in time."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from stage import ODD, odd, rows, until
from test_roles_process import process, said

from fi_stream import connect
from fi_stream.roles.runtime import GRACE, LEAVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

    from fi_stream.roles.result import Result


def contributors(result: Result) -> list[str]:
    return [one.member for one in result.contributors]


async def test_an_answer_in_hand_is_given_before_a_participant_ends(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    log, slow = tmp_path / "p1", {"p1": ODD + "time.sleep(1.5)"}
    stage = build(models=slow, policy={"quorum": 1})
    with process("participant", stage.file("p1"), log) as participant:
        await until(lambda: said(log, "ready"))
        async with stage.running("agg"), connect(stage.file("alice")) as client:
            asking = client.post(odd(1), deadline=3.0)
            await asyncio.sleep(0.5)
            participant.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert await asyncio.to_thread(participant.wait, 10) == 0
            assert 0.5 < time.monotonic() - begun < GRACE
            result = await asking
    assert (result.outcome, contributors(result)) == ("partial", ["p1"])
    [stopped] = said(log, "stopped")
    assert stopped["answers"] == 1


async def test_a_query_that_an_aggregator_leaves_open_is_settled_in_time_by_the_next(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = build(participants=2, models={"p1": ODD + "time.sleep(3)"})
    first, second = tmp_path / "first", tmp_path / "second"
    async with stage.running("p1", "p2"), connect(stage.file("alice")) as client:
        with process("aggregator", stage.file("agg"), first) as aggregator:
            await until(lambda: said(first, "ready"))
            assert (await client.ask(rows(1), deadline=5.0)).outcome == "complete"
            asking = client.post(odd(1), deadline=15.0)
            await asyncio.sleep(0.5)
            aggregator.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(aggregator.wait, 5) == 0
            assert not asking.done()
        with process("aggregator", stage.file("agg"), second):
            result = await asking
            assert (result.outcome, contributors(result)) == ("complete", ["p1", "p2"])
            await until(lambda: said(second, "ready"))
    [stopped] = said(first, "stopped")
    assert stopped["outcomes"] == {"complete": 1}


async def test_a_model_that_hangs_ends_with_the_grace_time_and_says_so(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage, log = build(models={"p1": ODD + "time.sleep(60)"}), tmp_path / "p1"
    with process("participant", stage.file("p1"), log) as participant:
        await until(lambda: said(log, "ready"))
        async with connect(stage.file("alice")) as client:
            client.post(odd(1), deadline=9.0)
            await asyncio.sleep(0.3)
            participant.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert await asyncio.to_thread(participant.wait, 15) == 10
            assert GRACE < time.monotonic() - begun < GRACE + LEAVE + 1
    [forced] = said(log, "stop.forced")
    assert (forced["level"], forced["after"]) == ("error", GRACE + LEAVE)
    assert "error: what was in hand was not finished within 5 s" in log.read_text()
