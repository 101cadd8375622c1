"""The outside of an event: header bytes, nonce, sealed payload, and one tag for each reader."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Annotated

from annotated_types import Len

from fi_stream.events.codec import CLEAR_ENTRIES, pack, unpack
from fi_stream.events.header import KINDS, VERSION, Header
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

TAG_BYTES = 16
NONCE_BYTES = 12
HEADER_BYTES = 1024
"""The most of a header."""

_AROUND = 64
"""The names and lengths of an envelope's fields, the nonce, and the tag of the ciphertext."""


class Envelope(Value):
    """An event as it travels.

    `header` is kept as the bytes that came, because they are what is authenticated. `tags` holds
    16 bytes for each reader of the epoch, in the order of the epoch's grant.
    """

    header: Annotated[bytes, Len(1, HEADER_BYTES)]
    nonce: Annotated[bytes, Len(NONCE_BYTES, NONCE_BYTES)]
    sealed: Annotated[bytes, Len(16, 64 * 2**20)]
    tags: Annotated[bytes, Len(TAG_BYTES, 1024 * TAG_BYTES)]


def event_digest(header: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """SHA-256 of header, nonce, ciphertext: what the tags are over, and the event's identity.

    The tags are left out, so that a broker that spoils one reader's tag does not give the other
    readers a different query.
    """
    start = struct.pack(">I", len(header))
    return hashlib.sha256(b"".join((start, header, nonce, sealed))).digest()


def encode_envelope(header: bytes, nonce: bytes, sealed: bytes, tags: bytes) -> bytes:
    """The bytes of an `Envelope`, to append to a topic."""
    return pack({"header": header, "nonce": nonce, "sealed": sealed, "tags": tags})


def decode_envelope(value: bytes) -> tuple[Envelope, Header] | Refusal:
    """Read an event's outside and its header; nothing in it has been authenticated yet."""
    envelope = unpack(value, Envelope, CLEAR_ENTRIES)
    if isinstance(envelope, Refusal):
        return envelope
    header = unpack(envelope.header, Header, CLEAR_ENTRIES)
    if isinstance(header, Refusal):
        return header
    if header.v > VERSION:
        return Refusal(Reason.UNSUPPORTED_VERSION, f"schema version {header.v}")
    kind = None if header.reply is None else header.reply.kind
    if kind not in KINDS[header.type]:
        return Refusal(Reason.MALFORMED, f"a {header.type} of kind {kind}")
    if header.reply is not None and header.reply.share is not None and kind != "answer":
        return Refusal(Reason.MALFORMED, f"a share in a {header.type} of kind {kind}")
    return envelope, header


def event_bytes(payload: int, readers: int) -> int:
    """The most bytes of an event with a framed payload of so many, sealed to so many readers."""
    return HEADER_BYTES + payload + TAG_BYTES * readers + _AROUND


def clear_fields(header: Header) -> Mapping[str, object]:
    """The header as flat, readable fields: ids in hexadecimal. For people's tools."""
    fields = header.model_dump(exclude_none=True)
    nested = (fields.pop("ask"), fields.pop("reply", {}))
    flat = {**fields, **nested[0], **nested[1]}
    if share := flat.pop("share", None):
        flat |= {"share": share["id"], "share_epoch": share["epoch"]}
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in flat.items()}
