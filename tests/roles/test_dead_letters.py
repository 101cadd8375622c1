"""Refused records end up in `fi.dead`, as far as that costs the stream nothing."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import tracemalloc
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from members import parts
from stage import rows, until
from test_roles_hostile import MALFORMED, TOPICS

from fi_stream import connect
from fi_stream.events.dead_letter import DeadLetter, decode_letter
from fi_stream.events.envelope import encode_envelope
from fi_stream.events.payloads import frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.roles import dead_letters
from fi_stream.roles.dead_letters import AT_ONCE, EVERY, MOST_KNOWN, MOST_WAITING, DeadLetters
from fi_stream.roles.tally import Tally
from fi_stream.transport.port import Outgoing, Partition, Record
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stage import Stage, Wire

    from fi_stream.transport.embedded import EmbeddedBroker

EVERYONE = ("agg", "p1", "p2", "p3")
NO_ERROR, NO_SUCH_TOPIC, FORBIDDEN = 0, 3, 29
PRODUCE = 0
POISON = Refusal(Reason.MALFORMED)
CANARY = np.full(4, 1234.5625, dtype=np.float32)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write twenty times a second, in tests that are not about the rate."""
    monkeypatch.setattr(dead_letters, "EVERY", 0.05)


def record(offset: int, value: bytes = b"bad", at: int = 5) -> Record:
    return Record(Partition("fi.queries", 1), offset, BrokerMillis(at), b"key", value)


def break_topic(broker: EmbeddedBroker, error: int) -> None:
    """Let the broker answer all that is asked about `fi.dead` with this error."""
    function = broker._library.rd_kafka_mock_topic_set_error
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    function.restype = None
    function(broker._cluster, b"fi.dead", error)


async def letters(wire: Wire) -> list[DeadLetter]:
    read = [decode_letter(record.value) for record in await wire.kept("fi.dead")]
    assert all(isinstance(letter, DeadLetter) for letter in read), read
    return read  # type: ignore[return-value]


async def written(wire: Wire, count: int) -> list[DeadLetter]:
    """The letters as soon as there are so many; no more may come after them."""
    found: list[DeadLetter] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            found = await letters(wire)
    await asyncio.sleep(0.2)
    assert await letters(wire) == found
    assert len(found) == count
    return found


@asynccontextmanager
async def writing(wire: Wire) -> AsyncIterator[DeadLetters]:
    """The dead letters of that member, with their task."""
    dead = DeadLetters(wire.seat)
    task = asyncio.create_task(dead.keep_writing())
    try:
        yield dead
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.usefixtures("quickly")
async def test_malformed_bytes_on_every_topic_are_kept_once_by_each_role_that_reads_them(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    readers = {topic: ["aggregator"] for topic in TOPICS}
    for topic in ("fi.queries", "fi.keys"):
        readers[topic].append("participant")
    async with stage.running("agg", "p1"), stage.wire("bob", Role.CLIENT) as wire:
        for topic in TOPICS:
            for value in MALFORMED:
                await wire.put(topic, 0, value)
        found = await written(wire, len(MALFORMED) * sum(map(len, readers.values())))
        expected: Counter[tuple[str, str, bytes]] = Counter()
        for topic, roles in readers.items():
            for role in roles:
                expected.update((topic, role, hashlib.sha256(v).digest()) for v in MALFORMED)
        assert expected == Counter((o.origin.topic, o.by.role, o.record.digest) for o in found)
        assert {one.reason for one in found} == {Reason.MALFORMED.code}
        assert {one.by.member for one in found} == {"agg", "p1"}
        kept = {(one.origin.topic, one.origin.offset): one.record for one in found}
        for source in await wire.kept("fi.queries"):
            letter = kept[source.source.topic, source.offset]
            assert letter.value == source.value[:4096]
            assert (letter.size, letter.key) == (len(source.value), b"key")
            assert letter.truncated is (len(source.value) > 4096)


@pytest.mark.usefixtures("quickly")
async def test_no_plaintext_is_found_among_the_dead_letters(build: Callable[..., Stage]) -> None:
    """Neither of a query that one reader cannot verify, nor of one that was opened in vain."""
    stage = build()
    async with stage.running("p1"), stage.wire("alice", Role.CLIENT) as wire:
        ask, event = wire.query(CANARY)
        envelope, _ = parts(event.value)
        tags = bytes(len(envelope.tags))
        spoiled = encode_envelope(envelope.header, envelope.nonce, envelope.sealed, tags)
        await wire.put("fi.queries", ask.partition, spoiled)
        other = wire.ask()
        opened = wire.keys.own.find().seal(other, None, b"\xff" * 4 + CANARY.tobytes() * 9)
        await wire.put("fi.queries", other.partition, opened.value)
        garbled = wire.ask()
        packed = frame(dead_letters.Refuser(member="canary-1234.5625", role="text"))
        sealed = wire.keys.own.find().seal(garbled, None, packed)
        await wire.put("fi.queries", garbled.partition, sealed.value)
        found = await written(wire, 3)
        reasons = [Reason.from_code(one.reason) for one in found]
        assert reasons == [Reason.BAD_TAG, Reason.MALFORMED, Reason.MALFORMED]
        assert [one.record.value for one in found] == [spoiled, opened.value, sealed.value]
        everything = b"".join(one.value for one in await wire.kept("fi.dead"))
        for canary in (CANARY[:1].tobytes(), b"1234.5625", CANARY[:1].tobytes().hex().encode()):
            assert canary not in everything
        assert not any("1234.5625" in str(one) for one in stage.logs)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("error", [NO_SUCH_TOPIC, FORBIDDEN])
async def test_without_the_topic_or_the_right_to_write_it_the_stream_goes_on(
    build: Callable[..., Stage], broker: EmbeddedBroker, error: int
) -> None:
    break_topic(broker, error)
    stage, drawn = build(), rows(1)
    async with (
        stage.running(*EVERYONE),
        stage.wire("bob", Role.CLIENT) as wire,
        connect(stage.file("alice")) as client,
    ):
        await wire.put("fi.queries", 0, b"bad")
        await until(lambda: stage.events("dead.not_written"))
        assert (await client.ask(drawn, deadline=10.0)).outcome == "complete"
        break_topic(broker, NO_ERROR)
        await wire.put("fi.queries", 0, b"worse")
        found = await written(wire, 4)
        assert {one.record.value for one in found} == {b"worse"}
        assert (await client.ask(drawn, deadline=10.0)).outcome == "complete"


@pytest.mark.usefixtures("quickly")
async def test_a_letter_that_is_refused_is_counted_and_the_next_one_is_written(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build()
    async with stage.wire("p1", Role.PARTICIPANT) as wire, writing(wire) as dead:
        dead.take(POISON, record(1))
        await until(lambda: dead.written == 1)
        broker.fail_next(PRODUCE, FORBIDDEN)
        dead.take(POISON, record(2))
        dead.take(POISON, record(3))
        await until(lambda: dead.failed == 2)
        dead.take(POISON, record(4))
        await until(lambda: dead.written == 2)
        assert [one.origin.offset for one in await letters(wire)] == [1, 4]
        [said] = stage.events("dead.not_written")
        assert (said["count"], said["topic"]) == (2, "fi.dead")
        assert "rights" in said["why"]


@pytest.mark.usefixtures("quickly")
async def test_while_the_broker_is_away_letters_are_given_up_and_later_ones_are_written(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    stage = build(kafka='"delivery.timeout.ms" = 500')
    async with stage.wire("p1", Role.PARTICIPANT) as wire, writing(wire) as dead:
        dead.take(POISON, record(1))
        await until(lambda: dead.written == 1)
        broker.go_down()
        for offset in range(2, 2 + 2 * MOST_WAITING):
            dead.take(POISON, record(offset))
        await until(lambda: dead.failed > 0)
        assert dead.overflowed == MOST_WAITING
        broker.come_up()
        await until(lambda: dead.written > 1, within=20.0)
        total = dead.written + dead.failed + len(dead._waiting) + dead.overflowed
        assert total == 1 + 2 * MOST_WAITING


async def test_ordinary_traffic_is_counted_and_not_kept(build: Callable[..., Stage]) -> None:
    async with build().wire("p1", Role.PARTICIPANT) as wire:
        dead = DeadLetters(wire.seat)
        tally = Tally("participant", dead)
        for offset, reason in enumerate(Reason):
            tally.refused(Refusal(reason), record(offset))
            tally.refused(Refusal(reason))  # of no record: an abstain, a result
        assert set(tally.counts().values()) == {2}
        kept = [Reason.from_code(letter.reason) for letter in dead._waiting]
        assert kept == [reason for reason in Reason if reason.poison]


async def test_a_record_that_is_read_again_is_kept_once_and_one_in_its_place_again(
    build: Callable[..., Stage],
) -> None:
    """A rebalance reads again; a topic that was made anew has the same offsets."""
    async with build().wire("p1", Role.PARTICIPANT) as wire:
        dead = DeadLetters(wire.seat)
        for _ in range(3):
            dead.take(POISON, record(1))
        dead.take(POISON, record(1, at=6))
        assert [letter.origin.appended for letter in dead._waiting] == [5, 6]


async def test_a_record_without_a_time_is_kept_like_any_other(build: Callable[..., Stage]) -> None:
    async with build().wire("p1", Role.PARTICIPANT) as wire:
        dead = DeadLetters(wire.seat)
        dead.take(POISON, record(1, at=-1))
        assert [letter.origin.appended for letter in dead._waiting] == [0]


async def test_what_waits_at_the_end_is_counted(build: Callable[..., Stage]) -> None:
    async with build().wire("p1", Role.PARTICIPANT) as wire:
        async with writing(wire) as dead:
            dead.take(POISON, record(0))
            await until(lambda: dead.written == 1)
            for offset in range(1, 4):
                dead.take(POISON, record(offset))
        assert (dead.written, dead.failed, dead.overflowed) == (1, 3, 0)


async def test_a_flood_takes_bounded_memory_and_a_bounded_rate_and_is_counted_to_the_last(
    build: Callable[..., Stage],
) -> None:
    flood = 10_000
    async with build().wire("p1", Role.PARTICIPANT) as wire:
        async with writing(wire) as dead:
            tracemalloc.start()
            for offset in range(flood):
                dead.take(POISON, record(offset, bytes(60_000)))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4 * 2**20
            assert len(dead._known) <= MOST_KNOWN
            assert dead.overflowed == flood - MOST_WAITING
            await until(lambda: dead.written == 2 * AT_ONCE)
        assert dead.written + dead.failed + dead.overflowed == flood
        appended = sorted(one.at for one in await wire.kept("fi.dead"))
        assert len(appended) == dead.written
        ahead = zip(appended, appended[AT_ONCE:], strict=False)
        assert all(later - earlier > 1000 * EVERY - 50 for earlier, later in ahead)


async def test_a_flood_on_a_topic_leaves_the_stream_alone(build: Callable[..., Stage]) -> None:
    stage, drawn, flood = build(), rows(1), 10_000
    target = Partition("fi.queries", 0)
    bad = [Outgoing(target, b"key", b"bad %d" % number) for number in range(flood)]
    async with (
        stage.running(*EVERYONE) as running,
        stage.wire("bob", Role.CLIENT) as wire,
        connect(stage.file("alice")) as client,
    ):
        assert await wire.seat.publish(bad)
        assert (await client.ask(drawn, deadline=20.0)).outcome == "complete"
        assert await running["p1"].stop() == {"malformed": flood}
        by_second: Counter[tuple[str, int]] = Counter()
        for one in await wire.kept("fi.dead"):
            letter = decode_letter(one.value)
            assert isinstance(letter, DeadLetter)
            by_second[letter.by.member, one.at // 1000] += 1
        assert by_second
        assert max(by_second.values()) <= AT_ONCE * 2  # a write at each end of a second
