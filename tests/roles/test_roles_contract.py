"""What the running roles do on every broker: the embedded one, and Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from members import parts
from rosters import asked_all_along, contributors, past, publish
from stage import EVERY_PROTECTION, names_of, rows

from fi_stream import connect
from fi_stream.federation.changes import with_keys, without_member
from fi_stream.federation.roster import Role
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stage import Stage, Wire

    from fi_stream.events.payloads import ResultPayload
    from fi_stream.transport.port import Record

EVERYONE = ("agg", "p1", "p2", "p3")
PROTECTIONS = EVERY_PROTECTION["protections"]


class RolesContract:
    """Laws of a federation at work; a subclass gives `stage`."""

    grouped: bool

    @pytest.mark.parametrize("protection", PROTECTIONS)
    async def test_a_stream_of_queries_is_answered_rightly_and_in_order(
        self, stage: Stage, protection: str
    ) -> None:
        drawn, how = rows(60), {"deadline": 10.0, "protection": protection}
        async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
            results = [result async for result in client.stream(drawn, **how)]
            assert _ours(client.refusals) == {}
        assert [result.outcome for result in results] == ["complete"] * 60
        assert [result.labels for result in results] == [[name] for name in names_of(drawn)]
        assert {result.guarantee.protection for result in results} == {protection}
        assert {len(result.contributors) for result in results} == {3}

    async def test_asks_at_once_after_connect_all_get_their_result(self, stage: Stage) -> None:
        drawn = rows(25)
        async with stage.running(*EVERYONE):
            for _ in range(4):
                async with connect(stage.file("alice")) as client:
                    posted = [client.post(row, deadline=10.0) for row in drawn]
                    results = await asyncio.gather(*posted)
                assert [result.outcome for result in results] == ["complete"] * 25

    async def test_replicas_of_a_participant_count_as_one(self, stage: Stage) -> None:
        drawn = rows(20)
        async with stage.running(*EVERYONE, "p1") as running, connect(stage.file("alice")) as one:
            async for result in one.stream(drawn, deadline=10.0):
                assert result.outcome == "complete"
                assert [each.member for each in result.contributors] == ["p1", "p2", "p3"]
            await asyncio.sleep(0.1)
            refused = _ours(await running["agg"].stop())
        # In a group each query reaches one of them; without, both answer, and the first counts.
        assert set(refused) <= {"duplicate", "late"}
        assert (sum(refused.values()) == 0) is self.grouped

    async def test_a_query_keeps_its_partition_whichever_its_client_chose(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running(*EVERYONE),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            for number in (3, 0, 2, 1):
                deadline = wire.seat.clock.now() + 10_000
                ask, event = wire.query(rows(1)[0], partition=number, deadline=deadline)
                assert await wire.seat.publish([event])
                result, payload = await results.next()
                assert payload.outcome == "complete"
                assert result.record.source.number == number
                kept = await wire.kept("fi.responses")
                responses = [record for record in kept if record.key == ask.query]
                assert [record.source.number for record in responses] == [number] * 3

    @pytest.mark.parametrize("protection", PROTECTIONS)
    async def test_an_aggregator_that_crashed_goes_on_with_what_is_open_and_repeats_nothing(
        self, stage: Stage, protection: str
    ) -> None:
        async with (
            stage.running("p1", "p2"),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            async with stage.running("agg") as first:
                soon = wire.seat.clock.now() + 500
                _, past = wire.query(rows(1)[0], deadline=soon, protection=protection)
                assert await wire.seat.publish([past])
                assert (await results.next())[1].outcome == "partial"
                wait = 4000 if self.grouped else 1500  # joining a group takes a while
                soon = wire.seat.clock.now() + wait
                ask, live = wire.query(rows(1)[0], deadline=soon, protection=protection)
                assert await wire.seat.publish([live])
                while len(await _under(wire, ask.query)) < 2:
                    pass
                await first["agg"].kill()
            async with stage.running("agg") as second:
                result, payload = await results.next(within=15.0)
                assert result.header.ask == ask
                assert payload.outcome == "partial"
                assert _answered(payload) == ["p1", "p2"]
                assert await results.gather(0.3) == []
                assert not _ours(await second["agg"].stop())

    async def test_a_query_whose_deadline_passed_while_no_aggregator_ran_has_one_outcome(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running("p1", "p2", "p3"),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            ask, event = wire.query(rows(1)[0], deadline=wire.seat.clock.now() + 400)
            assert await wire.seat.publish([event])
            while len(await _under(wire, ask.query)) < 3:
                pass
            await asyncio.sleep((ask.deadline - wire.seat.clock.now()) / 1000 + 0.05)
            async with stage.running("agg"):
                result, payload = await results.next(within=15.0)
                assert result.header.ask == ask
                assert payload.outcome == "complete"
                assert await results.gather(0.3) == []
            async with stage.running("agg") as again:
                assert await results.gather(0.5) == []
                assert not _ours(await again["agg"].stop())

    async def test_an_answer_that_came_in_time_counts_however_late_it_is_read(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running("agg", "p1", "p2") as running,
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            ask, event = wire.query(rows(1)[0], deadline=wire.seat.clock.now() + 600)
            assert await wire.seat.publish([event])
            while len(await _under(wire, ask.query)) < 2:
                pass
            time.sleep(0.8)  # noqa: ASYNC251  the whole process stands still, the aggregator with it
            result, payload = await results.next(within=15.0)
            assert result.header.ask == ask
            assert [one.member for one in payload.contributors] == ["p1", "p2"]
            assert not _ours(await running["agg"].stop())

    @pytest.mark.parametrize("protection", PROTECTIONS)
    async def test_members_leave_and_keys_rotate_while_queries_are_asked(
        self, stage: Stage, protection: str
    ) -> None:
        following = without_member(stage.federation, "p3", revoked=False)
        for member in ("p1", "agg"):
            fresh = Identity.generate(member)
            fresh.save(stage.directory / member / "keys" / "next")
            following = with_keys(following, fresh.card(), revoked=False)
        aggregators = ("agg", "agg") if self.grouped else ("agg",)
        async with (
            stage.running(*aggregators, "p1", "p2", "p3"),
            asked_all_along(stage, protection=protection) as results,
        ):
            moment = await publish(stage, following)
            await past(stage, moment)
        assert {result.outcome for result in results} == {"complete"}
        everyone, left = frozenset(("p1", "p2", "p3")), frozenset(("p1", "p2"))
        assert set(contributors(results)) == {everyone, left}


def _ours(refused: Mapping[str, int]) -> Mapping[str, int]:
    """Without the events of other tests, which share the broker's topics."""
    return {reason: count for reason, count in refused.items() if reason != "wrong_task"}


def _answered(payload: ResultPayload) -> list[str]:
    """Whose answers a result has, or under `blind` relays."""
    relayed = [parts(value)[1].sender for value in payload.responses or ()]
    return relayed or [one.member for one in payload.contributors]


async def _under(wire: Wire, query: bytes) -> list[Record]:
    return [record for record in await wire.kept("fi.responses") if record.key == query]


class TestEmbedded(RolesContract):
    grouped = False

    @pytest.fixture
    def stage(self, build: Callable[..., Stage]) -> Stage:
        return build(policy=EVERY_PROTECTION)


@pytest.mark.kafka
class TestApacheKafka(RolesContract):
    grouped = True

    @pytest.fixture
    def stage(self, on_apache: Stage) -> Stage:
        return on_apache
