from __future__ import annotations

import json
import re
from math import exp
from typing import TYPE_CHECKING, Any

import pytest
from documents import blocks, column, section, tables, text_of
from members import cast

from fi_stream.aggregation.evidence import OWN_CAPS
from fi_stream.cli import samples
from fi_stream.events import (
    dead_letter,
    envelope,
    grant,
    header,
    payloads,
    roster,
    sums,
    tensors,
)
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.federation.roster import Role
from fi_stream.privacy.allowed import as_markdown
from fi_stream.roles import dead_letters
from fi_stream.sealing import audiences, epochs, keyring, waiting
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation
    from fi_stream.values import Value

TEXT = text_of("docs/protocol.md")
FIELDS: list[tuple[str, int, type[Value]]] = [
    ("Envelope", 0, envelope.Envelope),
    ("Header", 0, header.Header),
    ("Header", 1, header.Ask),
    ("Header", 2, header.Reply),
    ("Query", 0, payloads.QueryPayload),
    ("Tensor", 0, tensors.Tensor),
    ("Answer", 0, payloads.Answer),
    ("Noise", 0, payloads.Noise),
    ("Abstain", 0, payloads.Abstain),
    ("Result", 0, payloads.ResultPayload),
    ("Result", 1, payloads.Contributor),
    ("Result", 2, payloads.Missing),
    ("Shares", 0, header.Share),
    ("Proposals", 0, sums.ProposalPayload),
    ("Proposals", 1, sums.Chosen),
    ("Proposals", 2, sums.HalfPayload),
    ("Releases", 0, sums.RefusalPayload),
    ("Releases", 1, sums.ReleasePayload),
    ("Grants", 0, grant.SignedGrant),
    ("Grants", 1, grant.Grant),
    ("Grants", 2, grant.Epoch),
    ("Grants", 3, grant.ReaderGrant),
    ("Grants", 4, grant.ReaderKeys),
    ("Rosters", 0, roster.SignedRoster),
    ("Rosters", 1, roster.RosterVersion),
    ("Rosters", 2, roster.RosterMember),
    ("Dead letters", 0, dead_letter.DeadLetter),
    ("Dead letters", 1, dead_letter.Origin),
    ("Dead letters", 2, dead_letter.Refuser),
    ("Dead letters", 3, dead_letter.Kept),
]


@pytest.mark.parametrize(("heading", "number", "kind"), FIELDS, ids=str)
def test_every_field_on_the_wire_is_documented_in_its_order(
    heading: str, number: int, kind: type[Value]
) -> None:
    table = tables(section(TEXT, heading))[number]
    assert column(table, "field") == list(kind.model_fields)
    schema = kind.model_json_schema(mode="serialization")["properties"]
    for row in table:
        assert _kind_of(schema[row["field"]]) in _JSON_KINDS[row["kind"]], row


def test_the_reasons_have_the_codes_of_the_code() -> None:
    (rows,) = tables(section(TEXT, "Reasons"))
    assert {row["reason"]: int(row["code"]) for row in rows} == {r.value: r.code for r in Reason}
    assert [row["reason"] for row in rows] == [reason.value for reason in Reason]


def test_the_reasons_that_are_poison_are_those_of_the_code() -> None:
    words = section(TEXT, "Dead letters").partition("Those are")[0]
    said = [word for word in re.findall(r"`(\w+)`", words) if word != "fi"]
    assert said == [reason.value for reason in Reason if reason.poison]


def test_every_reason_has_its_place_in_the_checks_or_keeps_an_answer_out() -> None:
    headings = (
        "Checks of an event, in order",
        "Checks of a grant, in order",
        "Rosters",
        "Shares",
        "Releases",
        "Proposals",
    )
    checks = "".join(section(TEXT, heading) for heading in headings)
    kept_out = {Reason.MODEL_FAILED, Reason.OVER_BUDGET, Reason.OVERLOADED, Reason.INDEPENDENT}
    assert {reason for reason in Reason if f"`{reason}`" not in checks} == kept_out


def test_the_outcomes_are_those_of_the_code() -> None:
    assert column(tables(section(TEXT, "Result"))[3], "outcome") == [o.value for o in Outcome]


def test_the_table_of_what_goes_with_what_is_the_code_s() -> None:
    assert as_markdown() in TEXT


def test_the_caps_of_weights_are_those_of_the_code() -> None:
    rows = next(t for t in tables(section(TEXT, "Answer")) if "cap" in t[0])
    said = {
        name: exp(int(row["cap"].removeprefix("e^"))) if "^" in row["cap"] else float(row["cap"])
        for row in rows
        for name in row["rule of the query"].replace("`", "").split(", ")
    }
    assert said == pytest.approx(dict(OWN_CAPS))


def test_the_example_task_has_the_hash_that_the_code_gives_it() -> None:
    task = samples._TASK
    (line,) = blocks(section(TEXT, "Task and roster"), "json")
    assert json.loads(line) == task.model_dump(mode="json")
    assert json.dumps(json.loads(line), sort_keys=True) == line.strip()
    assert task.hash.hex() in TEXT


def test_the_numbers_in_the_words_are_those_of_the_code() -> None:
    assert payloads.response_length(rows=3, outputs=7) == 512 + 8 * 3 * 7
    assert payloads._FRAME_STEP == 64
    assert (epochs.KEY_LIFE, epochs.MOST_MESSAGES) == (3_600_000, 2**24)
    assert (keyring.MOST_EPOCHS, waiting.MOST_EVENTS) == (256, 256)
    assert keyring.MOST_FOR_EACH_CLIENT == 4
    assert waiting.MOST_BYTES == 4 * 2**20
    assert (dead_letter.MOST_BYTES, dead_letter.MOST_KEPT, dead_letter.MOST_KEY) == (8192, 4096, 64)
    assert (dead_letters.AT_ONCE, dead_letters.MOST_WAITING) == (50, 256)
    datatypes = next(
        row["what"] for row in tables(section(TEXT, "Tensor"))[0] if row["field"] == "datatype"
    )
    assert datatypes == ", ".join(f"`{datatype}`" for datatype in tensors.Datatype)


def test_every_topic_of_the_catalogue_is_named() -> None:
    named = " ".join(column(tables(section(TEXT, "Kafka"))[0], "topic")).replace("`", "")
    assert sorted(named.replace(",", "").split()) == sorted(t.name for t in catalogue().topics)


def test_grants_go_to_whom_the_table_says(federation: Federation) -> None:
    groups = {
        "all participants": federation.roster.having(Role.PARTICIPANT),
        "all aggregators": federation.roster.having(Role.AGGREGATOR),
        "the helper": federation.roster.having(Role.HELPER),
        "that client": federation.roster.having(Role.CLIENT)[:1],
        "": (),
    }
    rows = tables(section(TEXT, "Who grants whom"))[0]
    for row, line in zip(rows, audiences.TABLE, strict=True):
        assert row["sender"] == line.sender.value
        assert row["purpose"].startswith((line.purpose, f"`{line.purpose}`"))
        if line.protections != audiences.ALL:
            assert ", ".join(f"`{each}`" for each in line.protections) in row["purpose"]
        to_one = line.opens is Role.CLIENT
        assert ("one epoch for each client" in row["purpose"]) is to_one
        readers = audiences.Use(line, "alice" if to_one else None).audience(federation)
        assert readers.openers == groups[row["may read"]]
        assert readers.checkers == groups[row["may only check"]]


@pytest.fixture
def federation() -> Federation:
    return cast().federation


_JSON_KINDS = {
    "member": {"string matching"},
    "text": {"string", "reference", "constant"},
    "bytes": {"string of bytes"},
    "bytes16": {"string of bytes, 16"},
    "bytes32": {"string of bytes, 32"},
    "int": {"integer"},
    "bool": {"boolean"},
    "float": {"number"},
    "map": {"reference"},
    "array of int": {"array"},
    "array of text": {"array"},
    "array of bytes": {"array"},
    "array of map": {"array"},
    "array of tensor": {"array"},
}


def _kind_of(schema: dict[str, Any]) -> str:
    """What a field's JSON schema says that it is, an optional one being what it is when there."""
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if "$ref" in schema:
        return "reference"
    kind: str = schema["type"]
    if "const" in schema or "enum" in schema:
        return "constant"
    if "pattern" in schema:
        return f"{kind} matching"
    if schema.get("format", "").startswith(("binary", "base64")):
        least, most = schema.get("minLength"), schema.get("maxLength")
        fixed = least == most and least in (16, 32)
        return f"{kind} of bytes, {least}" if fixed else f"{kind} of bytes"
    return kind
