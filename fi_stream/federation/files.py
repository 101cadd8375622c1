"""The files of a federation, read: `federation.toml`, `member.toml` and a public card.

Reading gives a value, or every mistake of the file; `load_*` raise those as one ConfigError.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fi_stream.federation import reading, writing
from fi_stream.federation.federation import Federation
from fi_stream.federation.member import MemberSettings
from fi_stream.federation.mistakes import Mistake, as_error, from_validation, located, nearest
from fi_stream.federation.reading import Read
from fi_stream.federation.roster import Card, Role, Roster

_Model = TypeVar("_Model", bound=BaseModel)
_Value = TypeVar("_Value")


def load_federation(file: Path | str) -> Federation:
    """Read a `federation.toml`.

    Raises:
        ConfigError: it is not there, or wrong: all its mistakes with their lines.
    """
    return _or_raise(read_federation(Path(file)))


def load_member(file: Path | str) -> MemberSettings:
    """Read a `member.toml`; its paths come back resolved from the file's directory.

    Raises:
        ConfigError: it is not there, or wrong: all its mistakes with their lines.
    """
    return _or_raise(read_member(Path(file)))


def load_card(file: Path | str) -> Card:
    """Read a member's public card.

    Raises:
        ConfigError: it is not there, or wrong: all its mistakes with their lines.
    """
    return _or_raise(read_card(Path(file)))


def load_as(role: Role, file: Path | str) -> tuple[MemberSettings, Federation]:
    """Read a `member.toml` with its federation, for a process that is to play `role`.

    Raises:
        ConfigError: either file is wrong, the roster does not give this member the role, or a
            section that the role needs is missing.
    """
    member = load_member(file)
    federation = load_federation(member.member.federation)
    if mistakes := membership_mistakes(member, federation, Path(file), role):
        found = reading.read(Path(file))
        lines = {} if isinstance(found, Mistake) else found.lines
        raise as_error(located(mistakes, Path(file), lines))
    return member, federation


def read_federation(file: Path) -> Federation | list[Mistake]:
    """A `federation.toml`, or all that is wrong with it."""
    found = reading.read(file)
    if isinstance(found, Mistake):
        return [found]
    if "roster" in found.content:
        what = "is not a key of ours; `version`, `revoked` and [[members]] are the roster"
        return located([Mistake(file, what, "roster")], file, found.lines)
    roster = {key: found.content.pop(key) for key in Roster.model_fields if key in found.content}
    return _validated(Federation, file, Read(found.content | {"roster": roster}, found.lines))


def read_member(file: Path) -> MemberSettings | list[Mistake]:
    """A `member.toml`, or all that is wrong with it."""
    return _read(file, MemberSettings)


def read_card(file: Path) -> Card | list[Mistake]:
    """A card, or all that is wrong with it."""
    return _read(file, Card)


def membership_mistakes(
    member: MemberSettings, federation: Federation, file: Path, role: Role | None = None
) -> list[Mistake]:
    """What keeps this member from playing `role` (or else every role it has) in the federation."""
    entry = federation.member(member.id)
    if entry is None:
        hint = nearest(member.id, (m.id for m in federation.roster.members))
        what = f"{member.id} is not in the roster of {member.member.federation}; {hint}"
        return [Mistake(file, what, "member.id")]
    wanted = {asked for asked in (role, member.member.role) if asked}
    mistakes = [
        Mistake(
            file,
            f"{member.id} is no {lacking} in the roster; its roles there: "
            f"{', '.join(sorted(entry.roles))}",
            "member.role",
        )
        for lacking in sorted(wanted - entry.roles)
    ]
    if Role.PARTICIPANT in (wanted or entry.roles):
        mistakes += [
            Mistake(file, f"is missing; a participant needs it: {what}", section)
            for section, given, what in (
                ("model", member.model, "add [model] with its source and `gives`"),
                ("privacy", member.privacy, 'add [privacy] with `mechanism = "none"` or another'),
            )
            if given is None
        ]
    if Role.HELPER in (wanted or entry.roles) and member.helper is None:
        what = 'is missing; a helper needs it: add [helper] with `store = "releases.sqlite"`'
        mistakes.append(Mistake(file, what, "helper"))
    return mistakes


def federation_toml(federation: Federation) -> str:
    """The text of a `federation.toml` that reads back as `federation`."""
    parts = federation.model_dump(mode="json", exclude_none=True)
    roster = parts.pop("roster")
    members = roster.pop("members")
    if not roster["revoked"]:
        del roster["revoked"]
    plain = {key: part for key, part in parts.items() if not isinstance(part, dict)}
    return writing.dumps({**plain, **roster, **parts, "members": members})


def card_toml(card: Card) -> str:
    """The text of a card file that reads back as `card`."""
    return writing.dumps(card.model_dump(mode="json", include=set(Card.model_fields)))


def _read(file: Path, model: type[_Model]) -> _Model | list[Mistake]:
    found = reading.read(file)
    return [found] if isinstance(found, Mistake) else _validated(model, file, found)


def _validated(model: type[_Model], file: Path, found: Read) -> _Model | list[Mistake]:
    # By way of JSON, strict reading still takes lists for tuples and texts for enums; a date, which
    # no key of ours takes, becomes a table, so that it is refused where it stands.
    text = json.dumps(found.content, default=lambda moment: {"date": str(moment)})
    try:
        return model.model_validate_json(text, strict=True, context=file.parent.absolute())
    except ValidationError as error:
        return from_validation(error, model, file, found.lines)


def _or_raise(read: _Value | list[Mistake]) -> _Value:
    if isinstance(read, list):
        raise as_error(read)
    return read
