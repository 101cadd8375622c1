"""A dead letter: what is kept of a record that was refused as poison (DESIGN 8.8).

It holds the record's own bytes, sealed or hostile as they were found, and nothing that was opened.
Nobody signs it: whoever may write to the topic may make one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

from annotated_types import Ge, Le, Len
from pydantic import StringConstraints

from fi_stream.events.codec import CLEAR_ENTRIES, pack, unpack
from fi_stream.events.header import VERSION
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Bytes32, Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_KEPT: Final = 4096
"""Bytes that are kept of a record's value."""

MOST_KEY: Final = 64
"""Bytes of a record's key; ours have 16."""

MOST_BYTES: Final = 8192
"""Of a packed dead letter; one made here has fewer."""


class Origin(Value):
    """Where the record was found; `appended` is in broker time."""

    topic: Annotated[str, StringConstraints(min_length=1, max_length=249)]
    partition: Annotated[int, Ge(0), Le(2**31 - 1)]
    offset: Counter
    appended: Counter

    @property
    def name(self) -> str:
        """As people write it: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Kept(Value):
    """The record's beginning, and the whole record's size and SHA-256; `truncated` if it is cut."""

    size: Counter
    digest: Bytes32
    truncated: bool
    value: Annotated[bytes, Len(0, MOST_KEPT)]
    key: Annotated[bytes, Len(0, MOST_KEY)] | None = None

    @classmethod
    def of(cls, key: bytes | None, value: bytes) -> Kept:
        """What is kept of a record."""
        return cls(
            size=len(value),
            digest=hashlib.sha256(value).digest(),
            truncated=len(value) > MOST_KEPT or len(key or b"") > MOST_KEY,
            value=value[:MOST_KEPT],
            key=None if key is None else key[:MOST_KEY],
        )

    @property
    def whole(self) -> bool:
        """Whether these are all the record's bytes, whatever `truncated` says."""
        return not self.truncated and hashlib.sha256(self.value).digest() == self.digest


class Refuser(Value):
    """Who refused it."""

    member: MemberId
    role: Annotated[str, StringConstraints(min_length=1, max_length=32)]


class DeadLetter(Value):
    """One record that one process refused; `reason` is a wire code of `Reason`."""

    type: Literal["dead_letter"]
    v: Annotated[int, Ge(1), Le(2**31 - 1)]
    origin: Origin
    reason: Annotated[int, Ge(1), Le(2**15)]
    by: Refuser
    record: Kept


def letter_about(origin: Origin, reason: Reason, by: Refuser, record: Kept) -> DeadLetter:
    """A letter in the version that we write."""
    return DeadLetter(
        type="dead_letter", v=VERSION, origin=origin, reason=reason.code, by=by, record=record
    )


def encode_letter(letter: DeadLetter) -> bytes:
    """The bytes of a dead letter, to append to its topic."""
    return pack(letter)


def decode_letter(value: bytes) -> DeadLetter | Refusal:
    """Read a dead letter; nothing vouches for what it says."""
    if len(value) > MOST_BYTES:
        return Refusal(Reason.TOO_LARGE, f"{len(value)} bytes")
    letter = unpack(value, DeadLetter, CLEAR_ENTRIES)
    if isinstance(letter, DeadLetter) and letter.v > VERSION:
        return Refusal(Reason.UNSUPPORTED_VERSION, f"schema version {letter.v}")
    return letter


def clear_letter(letter: DeadLetter) -> Mapping[str, object]:
    """The letter as flat, readable fields: bytes in hexadecimal, the reason as its word."""
    reason = Reason.from_code(letter.reason)
    fields = {
        **letter.origin.model_dump(),
        "reason": f"code {letter.reason}" if reason is None else reason.value,
        **letter.by.model_dump(),
        **letter.record.model_dump(exclude_none=True),
    }
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()}
