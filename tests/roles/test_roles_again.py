"""A client that asks again, or comes back: it finds the result of its query, and never two."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stage import names_of, rows

from fi_stream import NoResult, QueryError, connect
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Outcome, ResultPayload, frame
from fi_stream.events.query_id import new_query_id, partition_of
from fi_stream.federation.roster import Role
from fi_stream.roles import client as client_module
from fi_stream.roles import sending
from fi_stream.roles.own_epochs import Need

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage, Wire

    from fi_stream.roles.result import Result
    from fi_stream.transport.port import Record

EVERYONE = ("agg", "p1", "p2", "p3")
ONE, OTHER = rows(2, seed=11)[:1], rows(3, seed=12)


def said(result: Result) -> dict[str, object]:
    """All of it but how long it took."""
    return {**result.to_dict(), "latency_ms": None}


async def under(wire: Wire, topic: str, query: str) -> list[Record]:
    return [record for record in await wire.kept(topic) if record.key == bytes.fromhex(query)]


class AgainContract:
    """Laws of asking again; a subclass gives `stage`."""

    async def test_a_client_killed_under_load_finds_each_result_or_asks_again_and_gets_one(
        self, stage: Stage
    ) -> None:
        async with stage.running(*EVERYONE), stage.wire("alice", Role.CLIENT) as wire:
            ids = await asyncio.to_thread(_ids_of_one_killed, stage)
            async with connect(stage.file("alice")) as client:
                found = {each: await client.find(each) for each in ids}
                lost = [each for each in ids if found[each] is None]
                for each in lost:
                    found[each] = await client.ask(ONE, query_id=each, deadline=5.0)
            async with connect(stage.file("alice")) as later:
                for each in (*ids[:3], *ids[-3:]):
                    assert said(await later.find(each)) == said(found[each])
            results = [record.key.hex() for record in await wire.kept("fi.results") if record.key]
        assert len(lost) < len(ids)
        drawn = rows(len(ids), seed=5)
        for each, name in zip(ids, names_of(drawn), strict=True):
            result = found[each]
            assert result.query_id == each
            assert result.outcome == "complete"
            assert result.labels in ([[name], names_of(ONE)] if each in lost else [[name]])
            assert results.count(each) == 1

    async def test_while_the_first_is_open_its_result_is_what_a_second_gets(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running("agg", "p1", "p2") as running,
            stage.wire("alice", Role.CLIENT) as wire,
            connect(stage.file("alice")) as client,
        ):
            ask, event = wire.query(ONE[0], **_placed(wire), **_within(wire, 3000))
            assert await wire.seat.publish([event])
            result = await client.ask(OTHER, query_id=ask.query.hex(), deadline=5.0)
            assert result.outcome == "partial"
            assert result.labels == names_of(ONE)
            assert said(await client.find(result.query_id)) == said(result)
            assert len(await under(wire, "fi.queries", result.query_id)) == 2
            assert len(await under(wire, "fi.results", result.query_id)) == 1
            assert (await running["agg"].stop())["replayed"] == 1
            assert (await running["p1"].stop())["replayed"] == 1

    async def test_when_the_first_is_settled_nothing_is_sent_and_the_result_is_the_same(
        self, stage: Stage
    ) -> None:
        async with stage.running(*EVERYONE), stage.wire("alice", Role.CLIENT) as wire:
            async with connect(stage.file("alice")) as client:
                first = await client.ask(ONE, deadline=5.0)
            async with connect(stage.file("alice")) as later:
                for _ in range(2):
                    again = await later.ask(OTHER, query_id=first.query_id, deadline=5.0)
                    assert said(again) == said(first)
            assert len(await under(wire, "fi.queries", first.query_id)) == 1

    async def test_when_the_first_never_arrived_the_second_is_asked_in_its_place(
        self, stage: Stage
    ) -> None:
        async with stage.running(*EVERYONE), stage.wire("alice", Role.CLIENT) as wire:
            ask, late = wire.query(ONE[0], **_placed(wire), **_within(wire, -10))
            assert await wire.seat.publish([late])  # as good as never
            query = ask.query.hex()
            async with connect(stage.file("alice")) as client:
                assert await client.find(query) is None
                result = await client.ask(OTHER, query_id=query, deadline=5.0)
                assert (result.query_id, result.labels) == (query, names_of(OTHER))
            async with connect(stage.file("alice")) as later:
                assert said(await later.ask(ONE, query_id=query)) == said(result)
            [record] = await under(wire, "fi.results", query)
            assert record.source.number == partition_of(ask.query, 4)

    async def test_of_two_results_of_an_id_the_first_in_its_partition_counts(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running(*EVERYONE),
            stage.wire("agg", Role.AGGREGATOR) as wire,
            connect(stage.file("alice")) as client,
        ):
            first = await client.ask(ONE, deadline=5.0)
            reply = Reply(client="alice", digest=b"?" * 32, kind="result")
            payload = frame(ResultPayload(outcome=Outcome.NO_QUORUM))
            sealed = wire.keys.own.find(Need(1, "trusted", "alice")).seal(first.ask, reply, payload)
            await wire.put("fi.results", first.ask.partition, sealed.value, first.ask.query)
            assert said(await client.find(first.query_id)) == said(first)
            assert said(await client.ask(ONE, query_id=first.query_id)) == said(first)

    async def test_another_clients_query_of_the_same_id_is_not_ours(self, stage: Stage) -> None:
        async with (
            stage.running(*EVERYONE),
            connect(stage.file("alice")) as alice,
            connect(stage.file("bob")) as bob,
        ):
            theirs = await bob.ask(OTHER, deadline=5.0)
            assert await alice.find(theirs.query_id) is None
            ours = await alice.ask(ONE, query_id=theirs.query_id, deadline=5.0)
            assert ours.labels == names_of(ONE)
            assert said(await bob.find(theirs.query_id)) == said(theirs)
            assert "unknown_epoch" not in alice.refusals


async def test_without_a_result_asking_again_says_so_and_may_be_done_again(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        posted = client.post(ONE, deadline=0.2)
        with pytest.raises(QueryError, match="is being asked or looked for by this client"):
            await client.find(posted.query_id)
        assert (await posted).outcome is None
        for _ in range(2):
            with pytest.raises(NoResult, match=posted.query_id):
                await client.ask(ONE, query_id=posted.query_id, deadline=0.2)
        with pytest.raises(QueryError, match="is no query id"):
            await client.find("17")
        async with stage.running(*EVERYONE):
            result = await client.ask(ONE, query_id=posted.query_id, deadline=5.0)
        assert result.outcome in ("complete", "no_quorum")


async def test_a_client_has_so_many_queries_open_and_so_many_bytes_unsent_and_says_so(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        monkeypatch.setattr(client_module, "MOST_OPEN", 10)
        for row in rows(10):
            client.post(row, deadline=0.3)
        with pytest.raises(QueryError, match="10 queries are open at once"):
            client.post(ONE)
        monkeypatch.setattr(sending, "MOST_UNSENT", 100)
        monkeypatch.setattr(client_module, "MOST_OPEN", 100)
        with pytest.raises(QueryError, match="bytes of queries wait to be sent"):
            client.post(ONE)
        monkeypatch.undo()
        await asyncio.sleep(0.01)
        assert (await client.post(ONE, deadline=0.1)).outcome is None


def _placed(wire: Wire) -> dict[str, Any]:
    """An id, and the partition that it says."""
    query = new_query_id(wire.seat.clock.now(), 1, 4)
    return {"query": query, "partition": 1}


def _within(wire: Wire, milliseconds: int) -> dict[str, Any]:
    return {"deadline": wire.seat.clock.now() + milliseconds}


def _ids_of_one_killed(stage: Stage) -> list[str]:
    """What it had said that it asks when it was killed, in the middle of asking."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(here / "asker.py"), str(stage.file("alice"))],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    ) as process:
        assert process.stdout is not None
        ids = [process.stdout.readline().strip() for _ in range(60)]
        process.kill()
        ids += [line.strip() for line in process.stdout if len(line) == 33]
    return ids


class TestEmbedded(AgainContract):
    @pytest.fixture
    def stage(self, build: Callable[..., Stage]) -> Stage:
        return build()


@pytest.mark.kafka
class TestApacheKafka(AgainContract):
    @pytest.fixture
    def stage(self, on_apache: Stage) -> Stage:
        return on_apache
