"""An event may come before its grant; a flood of such events costs little, and nobody else."""

from __future__ import annotations

import secrets
import tracemalloc

from members import Cast, cast, query_payload, with_header

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.waiting import MOST_BYTES, MOST_EVENTS, WaitingRoom
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Instant


def record(size: int = 100, offset: int = 0) -> Record:
    return Record(Partition("fi.queries", 0), offset, BrokerMillis(0), None, bytes(size))


def expired(members: Cast, reader: str = "p1") -> list[Reason]:
    gate = members.gate(reader)
    return [refusal.reason for _, refusal in gate.expired(members.time.monotonic())]


def test_events_ahead_of_their_grant_wait_and_open_in_order() -> None:
    members = cast()
    epoch = members.epoch("alice", spread=False)
    values = [epoch.seal(members.ask(), None, query_payload()).value for _ in range(3)]
    for value in values:
        assert members.hear("query", value) is None
    members.time.advance(300)
    assert expired(members) == []
    released, refusal = members.gate("p1").granted(epoch.grant)
    assert refusal is None
    assert [one.value for one in released] == values
    assert members.gate("p1").waiting == 0
    for one in released:
        assert isinstance(members.gate("p1").admit(one, "query"), Verified)


def test_only_what_waited_for_this_epoch_is_released() -> None:
    members = cast()
    first, second = (members.epoch("alice", spread=False) for _ in range(2))
    for epoch in (first, second):
        value = epoch.seal(members.ask(), None, query_payload()).value
        assert members.hear("query", value) is None
    released, _ = members.gate("p1").granted(second.grant)
    assert len(released) == 1
    assert members.gate("p1").waiting == 1


def test_an_event_whose_grant_does_not_come_by_its_deadline_is_unknown_epoch() -> None:
    members = cast()
    value = members.epoch("alice", spread=False).seal(members.ask(), None, query_payload()).value
    assert members.hear("query", value) is None
    members.time.advance(499)
    assert expired(members) == []
    members.time.advance(1)
    assert expired(members) == [Reason.UNKNOWN_EPOCH]
    assert expired(members) == []


def test_an_event_past_its_deadline_does_not_wait() -> None:
    members = cast()
    sealed = members.epoch("alice", spread=False).seal(members.ask(), None, query_payload())
    members.time.advance(500)
    heard = members.hear("query", sealed.value)
    assert isinstance(heard, Refusal)
    assert heard.reason is Reason.UNKNOWN_EPOCH
    assert members.gate("p1").waiting == 0


def test_nothing_waits_longer_than_the_longest_deadline() -> None:
    members = cast(max_deadline_ms=1000)
    epoch = members.epoch("alice", spread=False)
    ask = members.ask(deadline=2**62)
    assert members.hear("query", epoch.seal(ask, None, query_payload()).value) is None
    members.time.advance(999)
    assert expired(members) == []
    members.time.advance(1)
    assert expired(members) == [Reason.UNKNOWN_EPOCH]


def test_a_step_of_the_wall_clock_neither_shortens_nor_lengthens_the_wait() -> None:
    members = cast()
    value = members.epoch("alice", spread=False).seal(members.ask(), None, query_payload()).value
    for hour in (3_600_000, -3_600_000):
        assert members.hear("query", value) is None
        members.time.step(hour)
        assert expired(members) == []
        members.time.advance(500)
        members.time.step(-hour)
        assert expired(members) == [Reason.UNKNOWN_EPOCH]
        members.time.advance(-500)


def test_a_flood_of_random_epochs_does_not_push_out_another_senders_events() -> None:
    members = cast()
    flood = members.epoch("bob", spread=False).seal(members.ask(), None, query_payload()).value
    honest = members.epoch("alice", spread=False)
    waiting = honest.seal(members.ask(), None, query_payload()).value
    assert members.hear("query", waiting) is None
    refused = 0
    for _ in range(3000):
        heard = members.hear("query", with_header(flood, {"epoch": secrets.token_bytes(16)}))
        refused += heard is not None
        assert heard is None or (
            isinstance(heard, Refusal) and heard.reason is Reason.UNKNOWN_EPOCH
        )
    assert refused == 3000 - MOST_EVENTS
    assert members.gate("p1").waiting == MOST_EVENTS + 1
    released, _ = members.gate("p1").granted(honest.grant)
    assert [one.value for one in released] == [waiting]


def test_names_that_are_not_in_the_roster_get_no_bench() -> None:
    members = cast()
    value = members.epoch("bob", spread=False).seal(members.ask(), None, query_payload()).value
    for number in range(500):
        heard = members.hear("query", with_header(value, {"sender": f"mallory{number}"}))
        assert isinstance(heard, Refusal)
        assert heard.reason is Reason.UNKNOWN_MEMBER
    assert members.gate("p1").waiting == 0


def test_a_hundred_thousand_events_of_one_sender_take_fixed_memory() -> None:
    room = WaitingRoom()
    tracemalloc.start()
    try:
        for number in range(100_000):
            room.add("bob", number.to_bytes(16, "big"), record(500), Instant(1.0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(room) == MOST_EVENTS
    assert peak < 2**20


def test_large_events_of_one_sender_are_bounded_by_their_bytes() -> None:
    room = WaitingRoom()
    size = 2**20
    kept = [room.add("bob", b"e", record(size), Instant(1.0)) for _ in range(10)]
    assert kept.count(None) == MOST_BYTES // size == len(room)
    assert room.add("alice", b"e", record(size), Instant(1.0)) is None
    assert len(room.granted("bob", b"e")) == MOST_BYTES // size
    assert room.add("bob", b"e", record(size), Instant(1.0)) is None


def test_room_is_given_back_when_events_expire() -> None:
    room = WaitingRoom()
    for number in range(MOST_EVENTS):
        assert room.add("bob", b"e", record(offset=number), Instant(float(number))) is None
    assert room.add("bob", b"e", record(), Instant(1.0)) is not None
    gone = room.expired(Instant(9.0))
    assert [one.offset for one, _ in gone] == list(range(10))
    for _ in range(10):
        assert room.add("bob", b"e", record(), Instant(1.0)) is None
    assert room.add("bob", b"e", record(), Instant(1.0)) is not None


def test_the_grant_of_one_sender_releases_nothing_of_another() -> None:
    room = WaitingRoom()
    room.add("alice", b"same", record(offset=1), Instant(1.0))
    room.add("bob", b"same", record(offset=2), Instant(1.0))
    assert [one.offset for one in room.granted("bob", b"same")] == [2]
    assert room.granted("carol", b"same") == []
    assert len(room) == 1
