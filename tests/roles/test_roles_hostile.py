"""Bytes that nobody should send: refused for their reason, counted, and the stream goes on."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

import msgpack
import stage as staging
from members import parts, with_header
from stage import names_of, rows

from fi_stream import connect
from fi_stream.events.envelope import event_digest
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Abstain, frame
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
TOPICS = ("fi.queries", "fi.responses", "fi.results", "fi.keys")
MALFORMED = (
    b"",
    b"\x00",
    random.Random(7).randbytes(300),
    b"\xdc\xff\xff" * 1000,
    b"\xdf\xff\xff\xff\xff",
    b"\xc0" * 65_000,
    msgpack.packb({"header": True, "nonce": 1, "sealed": None, "tags": [2**63]}),
    msgpack.packb(msgpack.Timestamp(1, 2)),
    b"\x81\xa6header" * 200,
)
"""What no decoder of ours takes: noise, claims of length, nesting, other types."""


async def test_malformed_bytes_on_every_topic_are_counted_and_the_stream_goes_on(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("bob", Role.CLIENT) as wire,
        connect(stage.file("alice")) as client,
    ):
        _, genuine = wire.query(drawn[0])
        bad = (*MALFORMED, genuine.value[:-1], genuine.value + b"\x00")
        for topic in TOPICS:
            for value in bad:
                await wire.put(topic, 0, value)
        result = await client.ask(drawn, deadline=10.0)
        assert result.outcome == "complete"
        assert result.labels == names_of(drawn)
        assert client.refusals == {"malformed": len(bad)}  # of the keys, it reads nobody's results
        assert await running["agg"].stop() == {"malformed": 4 * len(bad)}
        assert await running["p1"].stop() == {"malformed": 2 * len(bad)}


async def test_a_malformed_result_under_a_querys_own_key_does_not_hide_the_true_one(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(models={"p1": "time.sleep(0.3) if x.any() else None"}), rows(1)
    async with (
        stage.running(*EVERYONE),
        stage.wire("bob", Role.CLIENT) as wire,
        connect(stage.file("alice")) as client,
    ):
        asked = client.post(drawn, deadline=10.0)
        query, waiting = next(iter(client._open.items()))
        await wire.put("fi.results", waiting.ask.partition, b"\xdc\xff\xff" * 50, key=query)
        assert (await asked).outcome == "complete"
        assert client.refusals == {"malformed": 1}


async def test_events_of_another_federation_roster_and_member_are_refused_by_everybody(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage, drawn = build(), rows(1)
    other = staging.build(tmp_path / "other", stage.bootstrap)
    newer = stage.directory / "newer.toml"
    text = (stage.directory / "federation.toml").read_text()
    newer.write_text(text.replace("version = 1", "version = 2", 1))
    member = stage.file("bob")
    later = member.with_name("later.toml")
    later.write_text(member.read_text().replace("../federation.toml", "../newer.toml"))
    async with (
        stage.running(*EVERYONE) as running,
        other.wire("alice", Role.CLIENT) as stranger,
        connect(stage.file("alice")) as client,
    ):
        _, event = stranger.query(drawn[0])
        assert await stranger.seat.publish([event])
        stage.file("bob").write_text(later.read_text())
        async with stage.wire("bob", Role.CLIENT) as upgraded:
            soon = upgraded.seat.clock.now() + 300
            _, event = upgraded.query(drawn[0], deadline=soon)
            assert await upgraded.seat.publish([event])
        assert (await client.ask(drawn, deadline=10.0)).outcome == "complete"
        late = partial(stage.events, "refused", reason="unknown_epoch")
        await staging.until(lambda: len(late()) == len(EVERYONE))
        # Of each, its grant and its query; that of a roster to come waits for it.
        expected = {"wrong_task": 2, "unknown_roster": 1, "unknown_epoch": 1}
        assert await running["agg"].stop() == expected
        assert await running["p1"].stop() == expected


async def test_a_query_counts_once_however_often_and_wherever_it_is_appended_again(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        ask, event = wire.query(drawn[0], partition=1, deadline=wire.seat.clock.now() + 3000)
        assert await wire.seat.publish([event])
        await results.next()
        await wire.put("fi.queries", 1, event.value, ask.query)
        await wire.put("fi.queries", 3, event.value, ask.query)
        for record in await wire.kept("fi.responses"):
            await wire.put("fi.responses", 1, record.value, ask.query)
            await wire.put("fi.queries", 1, record.value, ask.query)
        for record in await wire.kept("fi.results"):
            await wire.put("fi.results", 1, record.value, ask.query)
        again = await results.gather(0.5)
        assert len(again) == 1  # the copy that this test appended
        assert await running["p1"].stop() == {
            "replayed": 1,
            "wrong_partition": 1,
            "wrong_topic": 3,
        }
        assert await running["agg"].stop() == {
            "duplicate": 1 + 3,
            "wrong_partition": 1,
            "wrong_topic": 3,
        }


async def test_what_is_appended_again_after_the_deadline_is_late_and_has_no_second_result(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with (
        stage.running("agg", "p1", "p2") as running,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        ask, event = wire.query(drawn[0], deadline=wire.seat.clock.now() + 300)
        assert await wire.seat.publish([event])
        _, payload = await results.next()
        assert payload.outcome == "partial"
        await asyncio.sleep(0.1)
        for topic in ("fi.queries", "fi.responses"):
            for record in await wire.kept(topic):
                await wire.put(topic, ask.partition, record.value, ask.query)
        assert await results.gather(0.4) == []
        assert await running["agg"].stop() == {"late": 1, "duplicate": 2}
        assert await running["p1"].stop() == {"late": 1}


async def test_another_members_answer_does_not_stand_for_a_silent_one(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(1)
    async with (
        stage.running("agg", "p1") as running,
        stage.wire("p2", Role.PARTICIPANT) as forger,
        stage.wire("alice", Role.CLIENT) as wire,
        wire.results() as results,
    ):
        ask, event = wire.query(drawn[0], deadline=wire.seat.clock.now() + 600)
        assert await wire.seat.publish([event])
        # p2 answers for another event of this id, and then for the one that was asked.
        for digest in (b"?" * 32, _digest(event.value)):
            reply = Reply(client="alice", digest=digest, kind="abstain", model="m")
            sealed = forger.keys.own.find().seal(ask, reply, frame(Abstain(reason=1), 600))
            await forger.put("fi.responses", ask.partition, sealed.value, ask.query)
            await forger.put("fi.responses", ask.partition, _as_p3(sealed.value), ask.query)
        _, payload = await results.next()
        assert payload.outcome == "no_quorum"
        assert [one.member for one in payload.missing if one.reason is None] == ["p3"]
        assert await results.gather(0.2) == []
        refused = await running["agg"].stop()
        assert refused["wrong_query"] == 1
        assert refused["unknown_epoch"] == 2  # p3 never granted what p2 sealed under


def _digest(value: bytes) -> bytes:
    envelope, _ = parts(value)
    return event_digest(envelope.header, envelope.nonce, envelope.sealed)


def _as_p3(value: bytes) -> bytes:
    return with_header(value, {"sender": "p3"})
