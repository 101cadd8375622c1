"""`federation.toml` and cards: what is written reads back, and each mistake is named."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from fi_stream.errors import ConfigError
from fi_stream.federation.files import (
    card_toml,
    federation_toml,
    load_card,
    load_federation,
    read_federation,
)
from fi_stream.federation.roster import Card

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.sealing.identity import Identity


def _mistakes(file: Path, old: str, new: str) -> str:
    """All that is said about the file once `old` reads `new` (all occurrences)."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_federation(file)
    return str(caught.value)


def test_a_federation_reads_back_as_it_was_written(home: Path, federation: Federation) -> None:
    read = load_federation(home / "federation.toml")
    assert read == federation
    assert read.task.hash == federation.task.hash
    assert federation_toml(read) == federation_toml(federation)


def test_a_card_reads_back_as_it_was_written(
    tmp_path: Path, identities: dict[str, Identity]
) -> None:
    card = identities["p1"].card()
    (tmp_path / "card.toml").write_text(card_toml(card))
    assert load_card(tmp_path / "card.toml") == card


def test_lookups_agree_with_the_roster(federation: Federation) -> None:
    assert federation.participants == {"p1", "p2"}
    assert federation.aggregators == {"joiner"}
    assert federation.clients == {"asker"}
    assert federation.default_rule == "soft"
    assert federation.default_protection == "trusted"
    member = federation.member("p2")
    card = federation.card("p2")
    assert member is not None
    assert card is not None
    assert (card.id, card.signing_key) == (member.id, member.signing_key)
    assert federation.member("p3") is None
    assert federation.card("p3") is None


@pytest.mark.parametrize(
    ("old", "new", "at", "said"),
    [
        ("quorum = 2", "quorum = ", "quorum", "is not valid TOML"),
        ("quorum = 2", "quorum = 3", "quorum", "policy.quorum: 3 answers can never come from 2"),
        ("gate = false", "gate = true", "gate", "policy.gate: of 2 that differ nobody can tell"),
        ("quorum = 2", "quorum = true", "quorum", "policy.quorum: should be a valid integer"),
        ("quorum = 2", 'quorum = "2"', "quorum", "policy.quorum: should be a valid integer"),
        ("quorum = 2", "quorom = 2", "quorom", "policy.quorom: is not a key of ours; did you mean"),
        (
            "quorum = 2",
            "xyz = 2",
            "xyz",
            "policy.xyz: is not a key of ours; known: confidence_cap, early_exit, form",
        ),
        ("version", "versoin", "versoin", "versoin: is not a key of ours; did you mean `version`"),
        ("version", "roster", "roster", "roster: is not a key of ours; `version`, `revoked` and"),
        ("version = 3", "", None, "version: is missing"),
        ("[task]", "[tusk]", "[tusk]", "tusk: is not a key of ours; did you mean `task`"),
        ('"multiclass"', '"guess"', "kind", "task.kind: write 'multiclass'"),
        ('"cat", "dog"', '"cat", "cat"', "classes", "task.classes: two have the same name"),
        ('"cat", "dog"', '"cat"', "classes", "task.classes: "),
        ('"cat", "dog"', '"cat", 7', "classes", "task.classes[1]: should be a valid string"),
        ('"FP32"', '"FP33"', "datatype", "task.inputs[0].datatype: write 'BOOL'"),
        ("[4]", "[0]", "shape", "task.inputs[0].shape[0]: should be greater than"),
        ("[4]", "2020-01-01", "shape", "task.inputs[0].shape: should be a valid array"),
        ("hop_ms = 15", "hop_ms = nan", "hop_ms", "policy.limits.hop_ms: should be"),
        ('["participant"]', '["x"]', '["x"]', "members[0].roles[0]: write 'client', 'participant'"),
        ('["aggregator"]', '["client"]', "[[mem", "members: none has the role aggregator"),
        ('["participant"]', '["client"]', "[[mem", "members: none has the role participant"),
        ('id = "p2"', 'id = "P2"', '"P2"', "members[1].id: use lower case letters, digits"),
        ('id = "p2"', 'id = "p1"', "[[mem", "members: p1 is listed twice"),
        ('signing_key = "', 'signing_key = "*', '= "*', "members[0].signing_key: is not base64"),
        (
            'signing_key = "',
            'signing_key = "AAAA',
            '= "AAAA',
            "members[0].signing_key: should have",
        ),
        ("_bytes = 1000000", "_bytes = 4095", "_bytes", "policy.limits.max_message_bytes: should"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(
    home: Path, old: str, new: str, at: str | None, said: str
) -> None:
    file = home / "federation.toml"
    found = _mistakes(file, old, new)
    lines = file.read_text().split("\n")
    line = next((number for number, text in enumerate(lines, 1) if at and at in text), None)
    place = f"{file}:{line}" if line else f"{file}"
    assert f"{place}: {said}" in found


def test_one_row_must_fit_a_message(home: Path) -> None:
    said = _mistakes(home / "federation.toml", "shape = [4]", "shape = [600, 600]")
    assert "policy.limits.max_message_bytes: one row of a query takes 1440000 bytes" in said


def test_all_mistakes_are_told_at_once(home: Path) -> None:
    file = home / "federation.toml"
    file.write_text(file.read_text().replace("hop_ms = 15", "hop_ms = -1"))
    said = _mistakes(file, '"cat", "dog"', '"cat"')
    assert said.startswith("2 mistakes\n")
    assert "hop_ms" in said
    assert "task.classes" in said


def test_contradictions_are_told_together(home: Path) -> None:
    file = home / "federation.toml"
    file.write_text(file.read_text().replace("quorum = 2", "quorum = 9"))
    said = _mistakes(file, '["aggregator"]', '["client"]')
    assert "policy.quorum" in said
    assert "aggregator" in said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file"):
        load_federation(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_federation(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "x"\n# caf\xe9\n')
    with pytest.raises(ConfigError, match=r"latin\.toml:2: is not UTF-8"):
        load_federation(latin)
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 50_000)
    with pytest.raises(ConfigError, match="nests too deeply"):
        load_federation(deep)


def test_a_syntax_error_at_the_end_has_the_last_line(tmp_path: Path) -> None:
    file = tmp_path / "cut.toml"
    file.write_text('name = "x"\nclasses = ["a",\n')
    found = read_federation(file)
    assert isinstance(found, list)
    assert found[0].line == 2


def test_a_card_takes_raw_bytes_in_python_and_base64_in_text() -> None:
    raw, long = bytes(32), bytes(1216)
    card = Card(id="p", signing_key=raw, sealing_key=long)
    text = card.model_dump(mode="json")
    assert text["signing_key"] == base64.b64encode(raw).decode()
    assert Card.model_validate(text) == card
