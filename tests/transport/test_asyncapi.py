"""The AsyncAPI document is current, whole, and says of each topic what travels there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fi_stream.events.dead_letter import DeadLetter
from fi_stream.events.envelope import Envelope
from fi_stream.events.header import Header
from fi_stream.transport.asyncapi import DOCUMENT, as_text, document
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def written() -> Any:
    return json.loads(DOCUMENT.read_text("utf-8"))


def references(within: object) -> Iterator[str]:
    match within:
        case {"$ref": str(target)}:
            yield target
        case dict():
            for one in within.values():
                yield from references(one)
        case list():
            for one in within:
                yield from references(one)


def found(in_document: Any, reference: str) -> Any:
    at = in_document
    for part in reference.removeprefix("#/").split("/"):
        at = at[part]
    return at


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text("utf-8") == as_text()


def test_every_reference_leads_somewhere() -> None:
    whole = written()
    targets = set(references(whole))
    assert len(targets) > 20
    for target in targets:
        assert found(whole, target), target


def test_every_topic_of_the_catalogue_is_a_channel_with_its_settings() -> None:
    channels = written()["channels"]
    assert set(channels) == set(type(catalogue()).model_fields)
    for role, channel in channels.items():
        topic = getattr(catalogue(), role)
        kafka = channel["bindings"]["kafka"]
        assert channel["address"] == kafka["topic"] == topic.name
        assert kafka["partitions"] == topic.partitions
        assert set(kafka["topicConfiguration"]) == set(topic.settings)


@pytest.mark.parametrize(
    ("channel", "message", "sealed"),
    [
        ("queries", "query", {"QueryPayload"}),
        ("responses", "response", {"Answer", "Abstain"}),
        ("proposals", "proposal", {"ProposalPayload", "RefusalPayload"}),
        ("results", "result", {"ResultPayload", "ReleasePayload"}),
    ],
)
def test_each_event_has_its_header_and_what_is_sealed_in_it(
    channel: str, message: str, sealed: set[str]
) -> None:
    whole = written()
    assert set(whole["channels"][channel]["messages"]) == {message}
    payload = found(whole, f"#/components/messages/{message}")["payload"]
    inside = payload["properties"]
    assert {r.rsplit("/", 1)[1] for r in references(inside["sealed"])} == sealed
    (header,) = references(inside["header"])
    assert set(found(whole, header)["properties"]) == set(Header.model_fields)
    (outside,) = references(payload["allOf"])
    assert set(found(whole, outside)["properties"]) == set(Envelope.model_fields)
    assert set(inside) <= set(Envelope.model_fields)


def test_dead_letters_are_described_with_their_reasons() -> None:
    whole = written()
    assert set(whole["channels"]["dead"]["messages"]) == {"dead_letter"}
    payload = found(whole, "#/components/messages/dead_letter")["payload"]
    (outside,) = references(payload["allOf"])
    assert set(found(whole, outside)["properties"]) == set(DeadLetter.model_fields)
    (reason,) = references(payload["properties"]["reason"])
    assert found(whole, reason)["x-codes"]["1"] == "malformed"


def test_operations_name_messages_of_their_channel() -> None:
    whole = written()
    assert {one["action"] for one in whole["operations"].values()} == {"send", "receive"}
    for name, one in whole["operations"].items():
        channel = one["channel"]["$ref"]
        for message in one["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/"), name


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fi_stream.transport.asyncapi", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_writes_the_file_and_finds_one_that_is_stale(tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    missing = run("--check", "--file", str(file))
    assert missing.returncode == 1
    assert "--write" in missing.stderr
    assert run("--write", "--file", str(file)).returncode == 0
    assert file.read_text("utf-8") == as_text()
    assert run("--check", "--file", str(file)).returncode == 0
    file.write_text(as_text().replace("fi.queries", "fi.Queries"), "utf-8")
    assert run("--check", "--file", str(file)).returncode == 1


def test_the_document_is_the_same_every_time() -> None:
    assert document() == document()
