"""Queries under `secagg`, answered end to end, on every broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import names_of, rows, until

from fi_stream import connect
from fi_stream.errors import NoResult
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.federation.policy import Limits, Protection, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.roles import parting, responding
from fi_stream.roles.helper import Helper
from fi_stream.secagg.shares import new_seed
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage, Wire

    from fi_stream.events.header import Share
    from fi_stream.secagg.store import Recorded

ANSWERING = ("p1", "p2", "p3")
EVERYONE = (*ANSWERING, "agg", "helper")
HOP = 500
"""Milliseconds: however busy the machine is, a hop takes no longer."""
SECAGG: dict[str, Any] = {
    "protections": (Protection.SECAGG,),
    "quorum": 1,
    "secagg": SecaggPolicy(k_min=2),
    "limits": Limits(hop_ms=HOP),
}


class SumsContract:
    """Laws of secure sums; a subclass gives `stage`."""

    patient: float

    async def test_a_query_is_answered_by_all_under_each_rule(self, stage: Stage) -> None:
        asked = rows(3)
        async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
            for rule in stage.federation.policy.rules:
                result = await client.ask(asked, deadline=10.0, rule=rule)
                assert result.outcome is Outcome.COMPLETE
                assert result.labels == names_of(asked)
                assert [one.member for one in result.contributors] == list(ANSWERING)
                assert result.decided is not None
                assert np.allclose(result.decided.scores.sum(axis=1), 1.0)
            assert "wrong_query" not in client.refusals

    async def test_a_stream_of_queries_of_two_clients_is_answered_rightly(
        self, stage: Stage
    ) -> None:
        async def ask_all(client: str, seed: int) -> None:
            drawn = rows(40, seed)
            async with connect(stage.file(client)) as fi:
                results = [one async for one in fi.stream(drawn, deadline=10.0)]
            assert [one.outcome for one in results] == ["complete"] * 40
            assert [one.labels for one in results] == [[name] for name in names_of(drawn)]

        async with stage.running(*EVERYONE):
            await asyncio.gather(ask_all("alice", 1), ask_all("bob", 2))

    async def test_without_one_participant_the_sum_is_of_the_others(self, stage: Stage) -> None:
        asked = rows(2)
        async with (
            stage.running("p1", "p3", "agg", "helper"),
            connect(stage.file("alice")) as client,
        ):
            result = await client.ask(asked, deadline=3.0)
        assert result.outcome is Outcome.PARTIAL
        assert result.missing == {"p2": "silent"}
        assert result.labels == names_of(asked)

    async def test_fewer_than_k_min_answers_are_no_quorum(self, stage: Stage) -> None:
        async with stage.running("p1", "agg", "helper"), connect(stage.file("alice")) as client:
            result = await client.ask(rows(1), deadline=2.0)
        assert result.outcome is Outcome.NO_QUORUM
        assert result.decided is None

    async def test_without_a_helper_the_deadline_says_no_quorum_once(self, stage: Stage) -> None:
        async with (
            stage.running(*ANSWERING, "agg"),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            soon = wire.seat.clock.now() + 2000
            _, event = wire.query(rows(1)[0], deadline=soon, protection="secagg")
            assert await wire.seat.publish([event])
            _, payload = await results.next()
            assert payload.outcome is Outcome.NO_QUORUM
            assert wire.seat.clock.now() >= soon - 1
            assert await results.gather(0.3) == []

    async def test_whoever_leaves_after_the_proposal_is_still_in_the_sum(
        self, stage: Stage
    ) -> None:
        asked = rows(1)
        async with (
            stage.running(*ANSWERING, "agg") as running,
            connect(stage.file("alice")) as client,
            stage.wire("bob", Role.CLIENT, announce=False) as wire,
        ):
            posted = client.post(asked, deadline=self.patient)
            await proposed(wire, bytes.fromhex(posted.query_id))
            await running["p3"].kill()
            async with stage.running("helper"):
                result = await posted
        assert result.outcome is Outcome.COMPLETE
        assert [one.member for one in result.contributors] == list(ANSWERING)
        assert result.labels == names_of(asked)

    async def test_a_helper_killed_before_it_could_publish_releases_the_same_set_again(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorded: list[Recorded] = []
        original = Helper._recorded

        async def then_nothing(self: Helper, ready: Any) -> list[Recorded]:
            recorded.extend(await original(self, ready))
            if recorded:
                await asyncio.Event().wait()
            return recorded

        async with (
            stage.running(*ANSWERING, "agg"),
            connect(stage.file("alice")) as client,
        ):
            with monkeypatch.context() as patched:
                patched.setattr(Helper, "_recorded", then_nothing)
                async with stage.running("helper") as first:
                    posted = client.post(rows(1), deadline=self.patient)
                    await until(lambda: recorded)
                    await first["helper"].kill()
            async with stage.running("helper"):
                result = await posted
        assert [one.value for one in recorded] == ["new"]
        assert result.outcome is Outcome.COMPLETE
        [told] = [one["sums"] for one in stage.events("stopped", member="helper")]
        assert told == {"same": 1}

    async def test_a_leader_killed_after_its_proposal_is_followed_by_one_outcome(
        self, stage: Stage
    ) -> None:
        async with (
            stage.running(*ANSWERING),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            async with stage.running("agg") as first:
                soon = wire.seat.clock.now() + round(self.patient * 1000)
                ask, event = wire.query(rows(1)[0], deadline=soon, protection="secagg")
                assert await wire.seat.publish([event])
                await proposed(wire, ask.query)
                await first["agg"].kill()
            async with stage.running("agg", "helper"):
                result, _ = await results.next(within=2 * self.patient)
                assert result.header.sender == "helper"
                for again, _ in await results.gather(0.3):  # a copy, of the same set
                    assert again.header.sender == "helper"

    async def test_what_was_proposed_and_has_no_result_is_taken_up_by_the_next_leader(
        self, stage: Stage
    ) -> None:
        """Although its answers were joined, and more than one commit ago."""
        async with (
            stage.running(*ANSWERING),
            stage.wire("alice", Role.CLIENT) as wire,
            wire.results() as results,
        ):
            async with stage.running("agg") as first:
                soon = wire.seat.clock.now() + round(self.patient * 1000)
                ask, event = wire.query(rows(1)[0], deadline=soon, protection="secagg")
                assert await wire.seat.publish([event])
                await proposed(wire, ask.query)
                await asyncio.sleep(1.5)
                await first["agg"].kill()
            async with stage.running("agg"):
                result, payload = await results.next(within=2 * self.patient)
                assert result.header.ask == ask
                assert payload.outcome is Outcome.NO_QUORUM
                assert wire.seat.clock.now() >= soon - 1
                assert await results.gather(0.3) == []


async def proposed(wire: Wire, query: bytes) -> None:
    """Wait until a set is proposed for that query; the test's own time limit ends it."""
    while not [record for record in await wire.kept("fi.proposals") if record.key == query]:
        pass


class TestEmbedded(SumsContract):
    patient = 4.0

    @pytest.fixture
    def stage(self, build: Callable[..., Stage]) -> Stage:
        return build(policy=SECAGG)


@pytest.mark.kafka
class TestKafka(SumsContract):
    patient = 15.0

    @pytest.fixture
    def stage(self, apache_broker: str, logs: list[Any], tmp_path: Path) -> Stage:
        from stage import build  # noqa: PLC0415 -- the fixture of that name is another

        asyncio.run(apply(Connection.to(apache_broker)))
        kafka = "session.timeout.ms = 6000"
        made = build(tmp_path / "federation", apache_broker, kafka=kafka, policy=SECAGG)
        made.logs = logs
        return made


async def test_each_query_chooses_its_protection(build: Callable[..., Stage]) -> None:
    stage = build(policy={**SECAGG, "protections": tuple(Protection)})
    asked = rows(2)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        for protection in Protection:
            result = await client.ask(asked, deadline=5.0, protection=protection)
            assert result.outcome is Outcome.COMPLETE
            assert result.labels == names_of(asked)
            assert result.ask.protection == protection
            assert result.guarantee is not None
            assert result.guarantee.protection is protection
        assert client.refusals == {}


async def test_a_member_whose_share_does_not_open_is_left_out_and_named(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = responding.seal_seed

    def spoilt(epoch: Any, *args: Any) -> Share:
        share = original(epoch, *args)
        if epoch.epoch.sender == "p2":
            share = share.model_copy(update={"sealed": bytes(48)})
        return share

    monkeypatch.setattr(responding, "seal_seed", spoilt)
    stage, asked = build(policy=SECAGG), rows(1)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(asked, deadline=5.0)
        assert (await running["helper"].stop())["bad_share"] == 1
    assert result.outcome is Outcome.PARTIAL
    assert result.missing == {"p2": "bad_share"}
    assert result.labels == names_of(asked)


async def test_shares_that_do_not_fit_each_other_never_give_a_label(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = parting.split

    def unfit(values: Any, seed: bytes, bound: Any) -> Any:
        return original(values, new_seed() if bound.participant == "p1" else seed, bound)

    monkeypatch.setattr(parting, "split", unfit)
    stage = build(policy=SECAGG)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.post(rows(1), deadline=5.0)
        assert result.outcome is None
        assert result.reason is Reason.SUM_OUT_OF_RANGE
        assert result.labels is None
        assert client.refusals == {"sum_out_of_range": 1}
        with pytest.raises(NoResult, match="sum_out_of_range"):
            await client.ask(rows(1), deadline=5.0)


async def test_two_processes_of_a_helper_release_the_same_sum_to_the_bit(
    build: Callable[..., Stage],
) -> None:
    """On a broker without groups both read everything: the first of two equal results counts."""
    stage, asked = build(policy=SECAGG), rows(1)
    async with stage.running(*EVERYONE, "helper"), connect(stage.file("alice")) as client:
        results = [await client.ask(asked, deadline=5.0) for _ in range(10)]
    assert [one.outcome for one in results] == ["complete"] * 10
    told: dict[str, int] = {}
    for one in stage.events("stopped", member="helper"):
        for verdict, count in one["sums"].items():
            told[verdict] = told.get(verdict, 0) + count
    assert told == {"new": 10, "same": 10}


async def test_a_store_that_cannot_be_written_releases_nothing_and_the_rest_goes_on(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fi_stream.errors import ConfigError  # noqa: PLC0415 -- of this test alone
    from fi_stream.secagg.store import ReleaseStore  # noqa: PLC0415

    stage = build(policy={**SECAGG, "protections": (Protection.SECAGG, Protection.TRUSTED)})

    def full(_self: ReleaseStore, _entries: Any) -> list[Recorded]:
        raise ConfigError("the disk is full")

    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        with monkeypatch.context() as patched:
            patched.setattr(ReleaseStore, "record", full)
            # The leader says so at the deadline, when the client may have given up already.
            result = await client.post(rows(1), deadline=2.0)
            assert result.outcome in (Outcome.NO_QUORUM, None)
            trusted = await client.ask(rows(1), deadline=3.0, protection="trusted")
            assert trusted.outcome is Outcome.COMPLETE
            posted = client.post(rows(1), deadline=5.0)
            await asyncio.sleep(0.5)
        assert (await posted).outcome is Outcome.COMPLETE
    assert len(stage.events("store.failed")) == 2
    assert stage.events("store.back")
