"""`fi-stream dead`: what was refused is listed, shown as it was found, and put back when asked."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
import stage as staging
import structlog

from fi_stream.events.dead_letter import Kept, Origin, Refuser, encode_letter, letter_about
from fi_stream.events.header import Reply
from fi_stream.events.refusals import Reason
from fi_stream.federation.roster import Role
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.port import Outgoing, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage

    from fi_stream.events.dead_letter import DeadLetter

HOSTILE = "\x1b[2Jtopic"


def letter(
    offset: int,
    value: bytes,
    *,
    reason: Reason = Reason.MALFORMED,
    topic: str = "fi.queries",
    member: str = "p1",
) -> DeadLetter:
    origin = Origin(topic=topic, partition=1, offset=offset, appended=1_750_000_000_000)
    by = Refuser(member=member, role="participant")
    return letter_about(origin, reason, by, Kept.of(b"key", value))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staging.everything_logged(), EmbeddedBroker() as broker:
        yield staging.build(tmp_path / "federation", broker.bootstrap)
    structlog.reset_defaults()  # the commands have set up logs on this test's standard error


@pytest.fixture
def bury(stage: Stage) -> Callable[..., None]:
    """Put letters on `fi.dead`, or bytes that are none."""

    async def put(values: tuple[DeadLetter | bytes, ...]) -> None:
        async with stage.wire("p1", Role.PARTICIPANT, announce=False) as wire:
            target = Partition("fi.dead", 0)
            events = [v if isinstance(v, bytes) else encode_letter(v) for v in values]
            assert await wire.seat.publish([Outgoing(target, b"origin", e) for e in events])

    return lambda *values: asyncio.run(put(values))


@pytest.fixture
def dead(
    stage: Stage, cli: Callable[..., tuple[int, str, str]]
) -> Callable[..., tuple[int, str, str]]:
    """Run `fi-stream dead` with bob's configuration."""
    return lambda verb, *words: cli("dead", verb, *words, "--config", stage.file("bob"))


def kept(stage: Stage, topic: str) -> list[tuple[int, bytes | None, bytes]]:
    async def read() -> list[tuple[int, bytes | None, bytes]]:
        async with stage.wire("p1", Role.PARTICIPANT, announce=False) as wire:
            return [(one.source.number, one.key, one.value) for one in await wire.kept(topic)]

    return asyncio.run(read())


def test_nothing_refused_is_an_empty_list(dead: Callable[..., tuple[int, str, str]]) -> None:
    assert dead("list") == (0, "", "")
    assert dead("list", "--json") == (0, "[]\n", "")


def test_a_record_is_listed_once_with_all_who_refused_it(
    bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    twice = letter(7, b"bad")
    bury(twice, letter(7, b"bad", member="p2"), twice, letter(8, bytes(5000), member="p2"))
    code, out, err = dead("list", "--json")
    first, second = json.loads(out)
    assert (code, err) == (0, "")
    assert first["origin"] == "fi.queries/1/7"
    assert first["refused_by"] == ["p1 (participant)", "p2 (participant)"]
    assert first["digest"] == twice.record.digest.hex()
    assert (second["size"], second["truncated"], second["reason"]) == (5000, True, "malformed")
    assert "value" not in first
    words = dead("list")[1].splitlines()
    assert [line.split("  ")[0] for line in words] == ["fi.queries/1/7", "fi.queries/1/8"]
    assert "5000 bytes, cut" in words[1]
    assert "2025-06-15" in words[0]


def test_the_list_is_of_one_reason_and_of_the_newest_when_asked(
    bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    reasons = (Reason.BAD_TAG, Reason.MALFORMED, Reason.BAD_TAG, Reason.BAD_TAG)
    bury(*(letter(number, b"bad", reason=reason) for number, reason in enumerate(reasons)))
    out = dead("list", "--json", "--reason", "bad_tag", "--limit", "2")[1]
    assert [one["offset"] for one in json.loads(out)] == [2, 3]
    assert dead("list", "--reason", "no_reason")[0] == 2


def test_letters_that_are_none_or_hostile_do_no_harm(
    bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    far = letter(2, b"\x1b[2J").model_copy(
        update={"origin": Origin(topic=HOSTILE, partition=1, offset=2, appended=2**63 - 1)}
    )
    bury(b"\xdc\xff\xff" * 4000, b"", far)
    code, out, err = dead("list")
    assert code == 0
    assert "\x1b" not in out
    assert "9999-12-31" in out
    assert err == "2 records among the dead letters are none\n"
    code, out, _ = dead("show", f"{HOSTILE}/1/2")
    assert code == 0
    assert "\x1b" not in out


def test_a_record_is_shown_with_its_clear_header_and_a_dump_no_longer_than_asked(
    stage: Stage, bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    async def sealed() -> bytes:
        async with stage.wire("p1", Role.PARTICIPANT, announce=False) as wire:
            reply = Reply(client="alice", digest=bytes(32), kind="abstain", model="m")
            return wire.keys.own.find().seal(wire.ask(), reply, b"payload").value

    event = asyncio.run(sealed())
    bury(letter(1, event, reason=Reason.BAD_TAG), letter(2, b"GET / HTTP/1.1\r\n\x1b[2J"))
    shown = json.loads(dead("show", "fi.queries/1/1", "--json")[1])
    assert shown["header"]["sender"] == "p1"
    assert bytes.fromhex(shown["value"]) == event[:512]
    out = dead("show", "fi.queries/1/2")[1]
    assert "reason      malformed" in out
    assert "00000000  47 45 54 20" in out
    assert "GET / HTTP/1.1.." in out
    assert "\x1b" not in out
    assert "GET" not in dead("show", "fi.queries/1/2", "--bytes", "0")[1]
    code, out, err = dead("show", "fi.queries/1/3")
    assert (code, out) == (3, "")
    assert "fi-stream dead list" in err


def test_a_replayed_record_stands_again_where_it_was_byte_for_byte(
    stage: Stage, bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    bury(letter(7, b"bad"), letter(7, b"bad", member="p2"), letter(8, b"other"))
    code, out, err = dead("replay", "fi.queries/1/7", "--yes")
    assert (code, err) == (0, "")
    assert out == "fi.queries/1/7 -> fi.queries/1/0\n"
    assert kept(stage, "fi.queries") == [(1, b"key", b"bad")]
    out = dead("replay", "--reason", "malformed", "--yes", "--json")[1]
    assert [json.loads(line) for line in out.splitlines()] == [
        {"origin": "fi.queries/1/7", "again": "fi.queries/1/1"},
        {"origin": "fi.queries/1/8", "again": "fi.queries/1/2"},
    ]


def test_what_cannot_be_replayed_is_said_and_never_sent(
    stage: Stage, bury: Callable[..., None], dead: Callable[..., tuple[int, str, str]]
) -> None:
    forged = letter(5, b"as it was").record.model_copy(update={"value": b"as it is"})
    bury(
        letter(1, bytes(5000)),
        letter(2, b"bad", topic="fi.dead"),
        letter(3, b"one"),
        letter(3, b"another"),
        letter(5, b"").model_copy(update={"record": forged}),
    )
    code, out, err = dead("replay", "--reason", "malformed", "--yes")
    assert (code, out) == (3, "")
    for said in (
        "fi.queries/1/1: it was cut: 4096 of 5000 bytes were kept",
        "fi.dead/1/2: no member reads that topic",
        "fi.queries/1/3: its letters do not agree",
        "fi.queries/1/5: its bytes are not those that were refused",
        "nothing was sent",
    ):
        assert said in err
    bury(letter(6, b"good"))
    assert dead("replay", "--reason", "malformed", "--yes")[:2] == (
        0,
        "fi.queries/1/6 -> fi.queries/1/0\n",
    )
    assert kept(stage, "fi.queries") == [(1, b"key", b"good")]


def test_a_replay_asks_first_and_takes_only_yes_for_it(
    stage: Stage,
    bury: Callable[..., None],
    dead: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bury(letter(7, b"bad"))
    for answer, code, sent, said in (
        ("n\n", 0, 0, "nothing was sent"),
        ("\n", 0, 0, "nothing was sent"),
        ("", 3, 0, "say --yes"),
        ("y\n", 0, 1, "Append 1 again"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        ended = dead("replay", "fi.queries/1/7")
        assert (ended[0], said in ended[2]) == (code, True), ended
        assert len(kept(stage, "fi.queries")) == sent


def test_a_replay_of_nothing_named_is_refused(dead: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = dead("replay", "--yes")
    assert (code, "say which records" in err) == (3, True)
