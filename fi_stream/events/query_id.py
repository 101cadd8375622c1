"""Query ids: UUIDs of version 7 (RFC 9562), which sort by the time at which they were made.

An id says its partition, so that whoever knows the id of a query knows where its result is.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Final

from fi_stream.errors import QueryError
from fi_stream.values import BrokerMillis

_VERSION: Final = 7
_TAIL: Final = 2**32


def new_query_id(at: BrokerMillis, partition: int = 0, partitions: int = 1) -> bytes:
    """16 bytes: 48 bits of milliseconds, the version and variant, 74 random bits.

    The last 32 of them are drawn so that the id falls on `partition` out of `partitions`.
    """
    number = (at & (2**48 - 1)) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | _VERSION << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    tail = number % _TAIL
    whole = tail - tail % partitions + partition
    whole -= partitions if whole >= _TAIL else 0
    return (number - tail + whole).to_bytes(16, "big")


def partition_of(query: bytes, partitions: int) -> int:
    """The partition of a query with this id: its last 32 bits modulo their number."""
    return int.from_bytes(query[-4:], "big") % partitions


def made_at(query: bytes) -> BrokerMillis:
    """The time at which the id was made."""
    return BrokerMillis(int.from_bytes(query[:6], "big"))


def read_query_id(text: str) -> bytes:
    """An id as people write it: 32 hexadecimal digits, with or without the dashes of a UUID.

    Raises:
        QueryError: it is no id that this library makes.
    """
    try:
        found = uuid.UUID(text)
    except ValueError:
        found = uuid.UUID(int=0)
    if found.version != _VERSION:
        raise QueryError(
            f"{text[:64]!r} is no query id: those are 32 hexadecimal digits, a UUID of version 7, "
            "such as `fi-stream ask` prints first on each line"
        )
    return found.bytes
