"""A version of the roster as it travels on `fi.keys`, signed by the federation's key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import StringConstraints

from fi_stream.events.codec import CLEAR_ENTRIES, SEALED_ENTRIES, unpack
from fi_stream.events.header import VERSION
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Bytes32, Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

_Role = Annotated[str, StringConstraints(min_length=1, max_length=32)]


class RosterMember(Value):
    """A member's card, roles and training examples; the keys are raw bytes, as on the card."""

    id: MemberId
    signing_key: Bytes32
    sealing_key: Annotated[bytes, Len(1216, 1216)]
    roles: Annotated[tuple[_Role, ...], Len(1, 16)]
    examples: Annotated[int, Ge(1), Le(2**53)] | None = None


class RosterVersion(Value):
    """The whole roster from `effective` on, in broker time.

    Events that the `revoked` sealed under an earlier version do not count from then on.
    """

    type: Literal["roster"]
    v: Annotated[int, Ge(1), Le(2**31 - 1)]
    federation: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    task: Bytes32
    version: Annotated[int, Ge(1), Le(2**31 - 1)]
    effective: Counter
    members: Annotated[tuple[RosterMember, ...], Len(1, SEALED_ENTRIES)]
    revoked: Annotated[tuple[MemberId, ...], Len(0, SEALED_ENTRIES)] = ()


class SignedRoster(Value):
    """A roster event as it travels: the bytes of a `RosterVersion` and their Ed25519 signature."""

    roster: Annotated[bytes, Len(1, 4 * 2**20)]
    signature: Annotated[bytes, Len(64, 64)]


def decode_roster(value: bytes) -> tuple[SignedRoster, RosterVersion] | Refusal:
    """Read a roster event; its signature has not been checked yet."""
    signed = unpack(value, SignedRoster, CLEAR_ENTRIES)
    if isinstance(signed, Refusal):
        return signed
    roster = unpack(signed.roster, RosterVersion, SEALED_ENTRIES)
    if isinstance(roster, Refusal):
        return roster
    if roster.v > VERSION:
        return Refusal(Reason.UNSUPPORTED_VERSION, f"schema version {roster.v}")
    return signed, roster


def clear_roster(roster: RosterVersion) -> Mapping[str, object]:
    """The fields that people look for, without the keys."""
    fields = roster.model_dump(exclude={"members", "task"})
    members = {member.id: ", ".join(member.roles) for member in roster.members}
    return {**fields, "task": roster.task.hex(), "members": members}
