"""How many examples a model was trained on: public, in every version of the roster, and capped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from members import cast

from fi_stream.federation.changes import with_keys
from fi_stream.federation.files import federation_toml, read_federation
from fi_stream.federation.roster import Role
from fi_stream.sealing.identity import Identity
from fi_stream.sealing.published import RosterKey, read_roster
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.federation import Federation


def saying(examples: dict[str, int]) -> Federation:
    base = cast().federation
    members = tuple(
        each.model_copy(update={"examples": examples.get(each.id)}) for each in base.roster.members
    )
    roster = base.roster.model_copy(update={"members": members, "version": 2})
    return base.model_copy(update={"roster": roster})


def participants() -> list[str]:
    return sorted(cast().federation.participants)


def test_more_than_twice_the_median_is_not_believed() -> None:
    first, second, third = participants()[:3]
    assert saying({first: 10, second: 20, third: 1000}).sizes == {
        first: 10.0,
        second: 20.0,
        third: 40.0,
    }
    assert saying({first: 10}).sizes == {first: 10.0}
    assert saying({}).sizes == {}
    client = cast().federation.roster.having(Role.CLIENT)[0]
    assert saying({client: 10}).sizes == {}


def test_the_file_and_a_published_version_keep_what_was_said(tmp_path: Path) -> None:
    said = saying(dict(zip(participants(), (7, 2**53, 9), strict=False)))
    file = tmp_path / "federation.toml"
    file.write_text(federation_toml(said))
    assert read_federation(file) == said
    key = RosterKey.generate(said.name)
    base = cast().federation.model_copy(update={"signing_key": key.public})
    published = key.publish(said.model_copy(update={"signing_key": key.public}), BrokerMillis(1))
    read = read_roster(published.value, base)
    assert read == published
    assert published.federation.sizes == said.sizes


def test_new_keys_leave_what_was_said() -> None:
    first = participants()[0]
    changed = with_keys(saying({first: 7}), Identity.generate(first).card(), revoked=False)
    assert changed.sizes == {first: 7.0}


@pytest.mark.parametrize("examples", [0, -1, 2**53 + 1])
def test_no_number_of_examples_is_taken_that_cannot_be(tmp_path: Path, examples: int) -> None:
    first = participants()[0]
    file = tmp_path / "federation.toml"
    text = federation_toml(saying({first: 7}))
    file.write_text(text.replace("examples = 7", f"examples = {examples}"))
    mistakes = read_federation(file)
    assert isinstance(mistakes, list)
    assert any("examples" in one.key for one in mistakes)
