"""A participant under too much load: what it answers is in time, the rest it says at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from stage import ODD, noise, odd, rows, until

from fi_stream import connect
from fi_stream.cli.ask import in_words
from fi_stream.events.refusals import Reason
from fi_stream.federation.roster import Role
from fi_stream.privacy.ledger import read as read_ledger
from fi_stream.roles import joining
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from stage import Stage

    from fi_stream.roles.result import Result
    from fi_stream.transport.embedded import EmbeddedBroker

EVERYONE = ("agg", "p1", "p2", "p3")
LABELS = {"form": "label", "rules": ("hard",)}
NOTING = """\
with open(__file__ + ".passes", "a") as passes:
        passes.write(f"{len(x)}\\n")
    time.sleep(SECONDS * len(x))"""
"""A model that is slow, and notes the size of each of its passes beside itself."""


async def test_what_cannot_be_in_time_is_said_at_once_with_a_hint_and_costs_nothing(
    build: Callable[..., Stage],
) -> None:
    stage = build(
        participants=1,
        privacy=noise(8.0, 10_000.0),
        policy={**LABELS, "quorum": 1},
        models={"p1": ODD + "time.sleep(0.05 * len(x))"},
    )
    async with (
        stage.running("agg", "p1"),
        connect(stage.file("alice")) as client,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        for size in (1, 12, 6, 10):  # it learns how long it takes
            assert (await client.ask(odd(size), deadline=5.0)).missing == {}
            await results.next()
        deadline = wire.seat.clock.now() + 1500
        burst = [wire.query(row, rule="hard", deadline=deadline)[1] for row in odd(60)]
        assert await wire.seat.publish(burst)
        said = {key[0].header.ask.query: key for key in [await results.next() for _ in burst]}
        assert len(said) == 60
        missing = [(event, one.missing[0]) for event, one in said.values() if one.missing]
        overloaded = [
            (event, one) for event, one in missing if one.reason == Reason.OVERLOADED.code
        ]
        answered = len(said) - len(missing)
        assert answered >= 5  # of twenty-five that there is time for
        assert len(overloaded) >= 15
        assert all(0 < one.retry_ms < 5000 for _, one in overloaded)
        # The first of them need not wait for those that are answered.
        assert min(event.record.at for event, _ in overloaded) < deadline - 800
        # It paid for its answers alone, and has time again at once.
        last = await client.ask(odd(1), deadline=5.0)
        assert last.missing == {}
    [one] = last.contributors
    paid = round(one.noise.total / 8.0) - 29 - 1
    assert answered <= paid <= 60 - len(overloaded)


async def test_a_client_is_told_when_to_ask_again(build: Callable[..., Stage]) -> None:
    stage = build(models={"p1": ODD + "time.sleep(2)", "p2": ODD + "time.sleep(1)"})
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(odd(1), deadline=10.0)).retry_after_ms is None
        result = await client.ask(odd(1), deadline=0.6)
    assert result.missing == {"p1": "overloaded", "p2": "overloaded"}
    assert 2000 <= result.retry_after_ms < 10_000  # by then also the slower one has room
    assert result.to_dict()["retry_after_ms"] == result.retry_after_ms
    assert f"ask again in {result.retry_after_ms} ms" in in_words(result)


async def test_while_an_aggregator_has_no_room_a_client_sends_less_and_a_stream_waits(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MOST_OPEN", 20)
    stage = build(models=dict.fromkeys(("p1", "p2", "p3"), ODD + "time.sleep(0.05)"))
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        await client.ask(odd(1), deadline=5.0)
        # All that one poll returns is known together: what the rejections teach holds afterwards.
        first = await asyncio.gather(*(client.post(row, deadline=5.0) for row in odd(100)))
        assert {one.outcome for one in first} == {"complete", "rejected"}
        again = [client.post(row, deadline=5.0) for row in odd(100)]
        at_once = [one.result() for one in again if one.done()]
        assert 40 <= len(at_once) < 100
        assert {(one.outcome, one.reason) for one in at_once} == {("rejected", "overloaded")}
        assert {one.retry_after_ms for one in at_once} == {5000}
        await asyncio.gather(*again)
        streamed = [one async for one in client.stream(odd(60), deadline=5.0, in_flight=60)]
    assert sum(one.decided is not None for one in streamed) >= 40
    assert client.refusals["overloaded"] >= len(at_once)


async def test_a_model_that_was_slow_once_is_tried_again(build: Callable[..., Stage]) -> None:
    once = ODD + "time.sleep(0 if globals().setdefault('warm', []) else warm.append(1) or 3.0)"
    stage = build(models={"p2": once})
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = await client.ask(odd(1), deadline=1.0)
        assert first.missing == {"p2": "silent"}
        await asyncio.sleep(3.0)
        after = [(await client.ask(odd(1), deadline=1.0)).missing for _ in range(12)]
    assert {"p2": "overloaded"} in after
    assert after[-3:] == [{}] * 3


@pytest.mark.kafka
async def test_never_more_than_the_limit_is_in_hand_also_while_a_replica_comes_and_goes(
    apache_broker: str, logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> None:
    await apply(Connection.to(apache_broker))
    stage = staging.build(
        tmp_path / "federation",
        apache_broker,
        models={"p1": NOTING.replace("SECONDS", "0.02")},
        participants=1,
        policy={"quorum": 1},
        kafka="session.timeout.ms = 6000\n[limits]\nin_flight = 4",
    )
    stage.logs = logs
    async with (
        stage.running("agg", "p1"),
        connect(stage.file("alice")) as alice,
        connect(stage.file("alice")) as bob,
    ):
        clients = (alice, bob)
        asked: list[asyncio.Future[Result]] = []
        for row in odd(25):
            asked += [client.post(row, deadline=20.0) for client in clients]
            await asyncio.sleep(0)
        async with stage.running("p1"):
            asked += [client.post(row, deadline=20.0) for row in odd(5) for client in clients]
            await asyncio.wait(asked[-2:])
        # Nothing stays paused with nothing in hand.
        asked += [client.post(row, deadline=20.0) for row in odd(5) for client in clients]
        results = await asyncio.gather(*asked)
    assert Counter(result.outcome for result in results) == {"complete": 70}
    passes = [int(line) for line in _passes(stage).read_text().split()]
    assert max(passes) == 4
    assert sum(passes) >= 70


async def test_events_whose_grant_comes_at_last_are_taken_on_within_the_limit(
    build: Callable[..., Stage],
) -> None:
    stage = build(
        models={"p1": NOTING.replace("SECONDS", "0.001")},
        participants=1,
        policy={"quorum": 1},
        kafka="[limits]\nin_flight = 4",
    )
    async with (
        stage.running("agg", "p1"),
        stage.wire("alice", Role.CLIENT, announce=False) as wire,
        wire.results() as results,
    ):
        events = [
            wire.query(row, deadline=wire.seat.clock.now() + 5000)[1] for row in odd(30, seed=3)
        ]
        assert await wire.seat.publish(events)
        await asyncio.sleep(0.3)
        await wire.keys.announce()
        found = [(await results.next())[1].outcome for _ in events]
    assert found == ["complete"] * 30
    assert max(int(line) for line in _passes(stage).read_text().split()) == 4


async def test_an_answer_whose_acknowledgement_was_lost_is_the_same_again_and_counts_once(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build(
        privacy=noise(8.0, 1000.0),
        policy={**LABELS, "quorum": 1},
        participants=1,
        models={"p1": NOTING.replace("SECONDS", "0.05")},
        kafka="delivery.timeout.ms = 1000",
    )
    async with (
        stage.running("agg", "p1") as running,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        _, first = wire.query(rows(1)[0], rule="hard", deadline=wire.seat.clock.now() + 8000)
        assert await wire.seat.publish([first])
        await results.next()
        deadline = wire.seat.clock.now() + 8000
        ask, event = wire.query(rows(1)[0], rule="hard", deadline=deadline)
        # From the moment in which it has predicted, the broker takes what comes and says nothing.
        stalled = asyncio.create_task(_stall(broker, _passes(stage), 2.0))
        assert await wire.seat.publish([event])
        result, payload = await results.next(within=8.0)
        await stalled
        assert result.header.ask == ask
        assert payload.outcome == "complete"
        [one] = payload.contributors
        assert one.noise.total == pytest.approx(16.0)
        assert await results.gather(0.5) == []
        responses = [record.value for record in await wire.kept("fi.responses")]
        assert len(responses) > 2
        assert len(set(responses)) == 2
        assert (await running["agg"].stop())["duplicate"] == len(responses) - 2
    assert stage.events("not acknowledged")  # it is unknown, not failed, and sent again
    assert not stage.events("not sent")
    assert list(read_ledger(stage.directory / "p1" / "budget.ledger").lines) == ["alice"]


async def _stall(broker: EmbeddedBroker, passes: Path, seconds: float) -> None:
    """From the next pass on, so long."""
    begun = _size(passes)
    await until(lambda: _size(passes) > begun)
    await asyncio.to_thread(broker.set_round_trip, round(seconds * 1000))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(broker.set_round_trip, 0)


def _passes(stage: Stage) -> Path:
    [noted] = (stage.directory / "p1").glob("*.passes")
    return noted


def _size(file: Path) -> int:
    return file.stat().st_size
