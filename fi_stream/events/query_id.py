"""Query ids: UUIDs of version 7 (RFC 9562), which sort by the time at which they were made."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fi_stream.values import BrokerMillis


def new_query_id(at: BrokerMillis) -> bytes:
    """16 bytes: 48 bits of milliseconds, the version and variant, 74 random bits."""
    number = (at & (2**48 - 1)) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return number.to_bytes(16, "big")
