"""What was written once can be read for ever: keys, grants, tags, headers and payloads."""

from __future__ import annotations

from typing import get_args

import golden
import pytest

from fi_stream.events.dead_letter import encode_letter
from fi_stream.events.header import EventType, Purpose, ReplyKind
from fi_stream.events.payloads import Answer, ResultPayload
from fi_stream.events.refusals import Refusal
from fi_stream.sealing.gate import Verified

READS = [(name, reader) for name, one in golden.EVENTS.items() for reader in one.readers]


@pytest.mark.parametrize(("name", "reader"), READS)
def test_every_reader_verifies_a_golden_event(name: str, reader: str) -> None:
    event = golden.admitted(name, reader)
    assert event.digest.hex() == golden.expected(name)["digest"]


@pytest.mark.parametrize(
    ("name", "opener"), [(n, o) for n, one in golden.EVENTS.items() for o in one.openers]
)
def test_a_golden_event_opens_to_what_it_always_did(name: str, opener: str) -> None:
    assert golden.readable_event(name, opener) == golden.expected(name)


def test_what_a_golden_result_relays_is_the_golden_answer_as_it_came() -> None:
    payload = golden.admitted("blind-result", "alice").open(ResultPayload)
    assert isinstance(payload, ResultPayload)
    assert payload.responses == (golden.bytes_of("blind-answer"),)
    refusal = golden.admitted("blind-answer", "agg").open(Answer)
    assert isinstance(refusal, Refusal), "the aggregator only checks it"


@pytest.mark.parametrize("name", golden.GRANTS)
def test_a_golden_grant_says_what_it_always_did(name: str) -> None:
    assert golden.readable_grant(name) == golden.expected(name)


def test_a_golden_dead_letter_says_what_it_always_did_and_is_still_written_so() -> None:
    assert golden.readable_letter() == golden.expected(golden.LETTER)
    assert encode_letter(golden.letter()) == golden.bytes_of(golden.LETTER)


def test_a_golden_roster_says_what_it_always_did_and_is_still_written_so() -> None:
    assert golden.readable_roster() == golden.expected(golden.ROSTER)
    assert golden.published().value == golden.bytes_of(golden.ROSTER)


def test_the_golden_task_has_the_hash_that_it_always_had() -> None:
    """It travels in every header: another hash is another federation."""
    assert golden.federation().task.hash.hex() == golden.expected("keys")["task_hash"]


@pytest.mark.parametrize(("name", "reader"), READS)
def test_a_golden_event_without_its_grant_or_with_a_byte_changed_is_not_read(
    name: str, reader: str
) -> None:
    value = golden.bytes_of(name)
    gate = golden.gate(reader)
    assert gate.admit(golden.record(name, value), golden.EVENTS[name].type) is None
    gate.granted(golden.bytes_of(f"grant-{golden.EVENTS[name].epoch}"))
    spoiled = value.replace(b"soft", b"hard").replace(b"density", b"entropy")
    assert spoiled != value
    heard = gate.admit(golden.record(name, spoiled), golden.EVENTS[name].type)
    assert isinstance(heard, Refusal)
    assert isinstance(gate.admit(golden.record(name, value), golden.EVENTS[name].type), Verified)


def test_every_type_of_event_and_every_kind_of_reply_has_golden_bytes() -> None:
    headers = [golden.expected(name)["header"] for name in golden.EVENTS]
    assert {header["type"] for header in headers} == set(get_args(EventType))  # type: ignore[index]
    kinds = {header.get("kind") for header in headers}  # type: ignore[attr-defined]
    assert kinds == {None, *get_args(ReplyKind)}
    assert {purpose for _, purpose, _ in golden.EPOCHS.values()} == set(get_args(Purpose))


def test_a_golden_share_opens_to_the_seed_that_it_always_did() -> None:
    assert golden.opened_seed() == golden.SEED


def test_no_golden_file_is_forgotten() -> None:
    names = {*golden.EVENTS, *golden.GRANTS, golden.LETTER, golden.ROSTER}
    assert {path.name.removesuffix(".v1.bin") for path in golden.FOLDER.glob("*.bin")} == names
    described = {path.name.removesuffix(".v1.json") for path in golden.FOLDER.glob("*.json")}
    assert described == names | {"keys"}


def test_golden_files_are_never_made_again() -> None:
    before = golden.bytes_of("query")
    with pytest.raises(SystemExit, match="never again"):
        golden.main()
    assert golden.bytes_of("query") == before
