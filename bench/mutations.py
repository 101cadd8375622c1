"""Bytes that nobody should send: genuine events spoilt in every way, and shapes made to cost much.

Each maker takes a source of chance and genuine events; the same seed makes the same bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Maker = Callable[[Random, Sequence[bytes]], bytes]

_MOST_FLIPS = 8
_MOST_PIECE = 64


def mutated(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """A genuine event with bits flipped, cut off, with bytes put in or taken out, or shuffled."""
    value = bytearray(chance.choice(genuine))
    size = len(value)
    at, other = sorted(chance.sample(range(size), 2))
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randint(1, _MOST_FLIPS)):
                value[chance.randrange(size)] ^= 1 << chance.randrange(8)
        case 1:
            del value[at:]
        case 2:
            value[at:at] = chance.randbytes(chance.randint(1, _MOST_PIECE))
        case 3:
            value = value[other:] + value[at:other] + value[:at]
        case 4:
            del value[at : at + chance.randint(1, _MOST_PIECE)]
        case _:
            value += chance.choice((b"\0", b"\xc0", chance.randbytes(3), bytes(value)))
    return bytes(value)


def untouched(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """A genuine event: what is sealed in it may be hostile."""
    return chance.choice(genuine)


def spliced(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """The beginning of one genuine event, and the end of another."""
    first, second = chance.choice(genuine), chance.choice(genuine)
    return first[: chance.randrange(len(first))] + second[chance.randrange(len(second)) :]


def misshapen(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """Well-formed MessagePack, or nearly so, that is no event: nesting, claims, other types."""
    match chance.randrange(8):
        case 0:
            start = chance.choice((b"\x91", b"\x81\xa1a", b"\xdc\xff\xff", b"\xdc\x00\x20"))
            return start * chance.randint(1, 1000) + b"\xc0" * chance.choice((0, 1, 65_000))
        case 1:
            # A length that only four bytes say.
            claims = chance.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"))
            return claims + struct.pack(">I", chance.getrandbits(32)) + chance.randbytes(20)
        case 2:
            return chance.choice((b"", b"\x90", b"\x81\xa6header")) + chance.choice(_ODD)
        case 3:
            return b"\x81\xa6header" * chance.randint(1, 1000)
        case 4:
            return chance.randbytes(chance.randint(0, 2000))
        case 5:
            count = chance.randint(1, 32)
            return bytes([0xDE, 0, count]) + b"\xc3\xc0\x01\xc0" * (count // 2) + b"\xa1a\xc0"
        case 6:
            # Each map of a list is empty: one byte here, seventy in memory.
            return b"\xdc\x00\x20" + (b"\xdc\x00\x20" + b"\x80" * 32) * chance.randint(1, 64)
        case _:
            whole = chance.choice(genuine)
            return whole[:-1] + b"\xc0" * chance.choice((1, 1000, 65_000))


def mistyped(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """A genuine event, one field of which, in it or in what it carries, is of another kind."""
    event = msgpack.unpackb(chance.choice(genuine))
    carried = next(name for name in ("header", "grant", "roster") if name in event)
    if chance.random() < 1 / 8:
        return _spoilt(chance, event, event)
    body = msgpack.unpackb(event[carried])
    parts = [body, *(part for part in body.values() if isinstance(part, dict))]
    return _packed({**event, carried: _spoilt(chance, body, chance.choice(parts))})


def with_random_epoch(chance: Random, genuine: Sequence[bytes]) -> bytes:
    """A genuine event, but of an epoch that nobody granted."""
    event = msgpack.unpackb(chance.choice(genuine))
    header = msgpack.unpackb(event["header"])
    return _packed({**event, "header": _packed({**header, "epoch": chance.randbytes(16)})})


def _spoilt(chance: Random, whole: dict[str, Any], part: dict[str, Any]) -> bytes:
    """The whole packed, with one field of this part of it gone, or something odd in its place."""
    name = chance.choice(list(part))
    if chance.random() < 1 / 4:
        del part[name]
        return _packed(whole)
    part[name] = _PLACE
    odd = chance.choice(_ODD)
    return _packed(whole).replace(_packed(_PLACE), odd)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


_PLACE = b"something odd is put here"
_ODD: Sequence[bytes] = (
    *map(
        _packed, (True, False, None, -1, 2**63, -(2**63), 1.0, float("nan"), "", b"", "x" * 900_000)
    ),
    *map(_packed, ([], {}, [[1]], b"0" * 17, b"0" * 900_000, "0" * 16, msgpack.Timestamp(1, 2))),
    msgpack.packb(msgpack.ExtType(5, b"0" * 16)),
    b"\xa3\xed\xa0\x80",  # a lone surrogate
    b"\x82\xa1a\x01\xa1a\x02",  # the same key twice
    b"\x82\xc3\x01\x01\x02",  # True beside 1
    b"\xc1",  # never used
    b"\xdc\xff\xff" * 300,
    b"\xc6\xff\xff\xff\xff",
)
