"""A grant: how a sender hands the keys of an epoch to its exact readers (DESIGN 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import Field, StringConstraints

from fi_stream.events.codec import CLEAR_ENTRIES, SEALED_ENTRIES, unpack
from fi_stream.events.header import VERSION, Purpose
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Bytes16, Bytes32, Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Epoch(Value):
    """What one epoch is for: every field is bound into each reader's HPKE ciphertext.

    `created` and `expires` are milliseconds since 1970 in broker time.
    """

    federation: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    task: Bytes32
    roster: Annotated[int, Ge(1), Le(2**31 - 1)]
    sender: MemberId
    epoch: Bytes16
    purpose: Purpose
    created: Counter
    expires: Counter


class ReaderGrant(Value):
    """One reader's part: `sealed` opens, with the reader's own key, to `ReaderKeys`."""

    reader: MemberId
    sealed: Annotated[bytes, Len(1, 4096)]
    commit: Bytes32


class ReaderKeys(Value):
    """The secrets that a grant gives one reader: its tag's, and the content's if it may read."""

    tag: Annotated[Bytes32, Field(repr=False)]
    content: Annotated[Bytes32 | None, Field(repr=False)] = None


class Grant(Value):
    """The body of a grant event; `content` commits to the content secret by SHA-256."""

    type: Literal["grant"]
    v: Annotated[int, Ge(1), Le(2**31 - 1)]
    epoch: Epoch
    content: Bytes32
    readers: Annotated[tuple[ReaderGrant, ...], Len(1, SEALED_ENTRIES)]


class SignedGrant(Value):
    """A grant event as it travels: the bytes of a `Grant` and their Ed25519 signature."""

    grant: Annotated[bytes, Len(1, 4 * 2**20)]
    signature: Annotated[bytes, Len(64, 64)]


def decode_grant(value: bytes) -> tuple[SignedGrant, Grant] | Refusal:
    """Read a grant event; its signature has not been checked yet."""
    signed = unpack(value, SignedGrant, CLEAR_ENTRIES)
    if isinstance(signed, Refusal):
        return signed
    grant = unpack(signed.grant, Grant, SEALED_ENTRIES)
    if isinstance(grant, Refusal):
        return grant
    if grant.v > VERSION:
        return Refusal(Reason.UNSUPPORTED_VERSION, f"schema version {grant.v}")
    readers = [part.reader for part in grant.readers]
    if len(set(readers)) != len(readers):
        return Refusal(Reason.MALFORMED, "a reader is granted twice")
    return signed, grant


def clear_grant(grant: Grant) -> Mapping[str, object]:
    """The fields of a grant that are readable by anyone: whose epoch it is, and for whom."""
    fields = {"type": grant.type, "v": grant.v, **grant.epoch.model_dump()}
    fields["readers"] = [part.reader for part in grant.readers]
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()}
