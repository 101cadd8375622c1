"""The set of answers that a secure sum is of: which participants, and which share of each."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fi_stream.events.codec import pack

if TYPE_CHECKING:
    from fi_stream.values import MemberId

ShareSet: TypeAlias = "tuple[tuple[MemberId, bytes], ...]"
"""Participants with the id of their share, in order of their ids, each once."""


class Identity(NamedTuple):
    """A query as all its events name it: client, id, and SHA-256 of the event that asked it."""

    client: MemberId
    query: bytes
    digest: bytes

    @property
    def name(self) -> bytes:
        """SHA-256 of all three: what a store knows the query by."""
        return hashlib.sha256(b"fi_stream query v1\0" + pack(self._asdict())).digest()


def set_digest(members: ShareSet) -> bytes:
    """SHA-256 of a set: two sets have the same only if they are the same."""
    listed = [{"member": member, "share": share} for member, share in members]
    return hashlib.sha256(b"fi_stream set v1\0" + pack({"set": listed})).digest()


def is_canonical(members: ShareSet) -> bool:
    """Whether it is in order, with each participant once: a set has one digest."""
    names = [member for member, _ in members]
    return all(first < second for first, second in pairwise(names))
