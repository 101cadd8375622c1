"""The members of one federation version, with their public keys and roles."""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Self

from annotated_types import Ge, Le, Len
from pydantic import BeforeValidator, PlainSerializer, model_validator

from fi_stream.federation.settings import Settings
from fi_stream.values import MemberId


class Role(StrEnum):
    """What a member does in the federation."""

    CLIENT = "client"
    PARTICIPANT = "participant"
    AGGREGATOR = "aggregator"
    HELPER = "helper"


def _from_base64(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        msg = "is not base64 on one line; copy the whole line from the member's card"
        raise ValueError(msg) from None


def _to_base64(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")


PublicKey = Annotated[
    bytes, BeforeValidator(_from_base64), PlainSerializer(_to_base64, when_used="json")
]
"""Raw bytes in Python, base64 on one line in TOML and JSON."""


class Card(Settings):
    """A member's public card: its name and its two public keys.

    `signing_key` is Ed25519, 32 bytes. `sealing_key` is ML-KEM-768 (1184 bytes) followed by
    X25519 (32 bytes), for HPKE.
    """

    id: MemberId
    signing_key: Annotated[PublicKey, Len(32, 32)]
    sealing_key: Annotated[PublicKey, Len(1216, 1216)]


class Member(Card):
    """A card in the roster, with what its holder may do.

    `examples` is how many its model was trained on: public, and believed only so far (`sizes`).
    """

    roles: Annotated[frozenset[Role], Len(1), PlainSerializer(sorted, when_used="json")]
    examples: Annotated[int, Ge(1), Le(2**53)] | None = None


class Roster(Settings):
    """The members of one federation version.

    What the `revoked` sealed under an earlier version does not count once this one is in effect.
    """

    version: Annotated[int, Ge(1), Le(2**31 - 1)]
    members: Annotated[tuple[Member, ...], Len(1, 1024)]
    revoked: Annotated[tuple[MemberId, ...], Len(0, 1024)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        ids = [member.id for member in self.members]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            msg = f"members: {', '.join(twice)} is listed twice; give each member its own id"
            raise ValueError(msg)
        return self

    def member(self, member_id: str) -> Member | None:
        """The member of that name, or None."""
        return next((m for m in self.members if m.id == member_id), None)

    def same(self, other: Roster) -> bool:
        """Whether both list the same members with the same keys and roles, in whatever order."""
        ours, theirs = ({m.id: m for m in roster.members} for roster in (self, other))
        return ours == theirs and set(self.revoked) == set(other.revoked)

    def having(self, role: Role) -> tuple[MemberId, ...]:
        """The ids of all members with that role, sorted."""
        return tuple(sorted(m.id for m in self.members if role in m.roles))
