"""Bounded MessagePack: nothing is allocated for lengths that a few header bytes merely claim.

An array or map of n entries is allocated when its length is read, once for each level of nesting,
so the bounds on their lengths are what keeps hostile bytes cheap (DESIGN 7). An empty map costs one
byte there and seventy here, so how many entries there are in all is bounded too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgpack
from pydantic import ValidationError

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=Value)

CLEAR_ENTRIES = 32
"""Most entries of an array or map in what is read before anyone was authenticated."""

SEALED_ENTRIES = 1024
"""Most entries in what an authenticated member sealed or signed: contributors, readers."""

_IN_ALL = 16
"""All arrays and maps of a value together have at most this many times the entries of one."""


class _NotAllowed(ValueError):
    """Something MessagePack can say and we do not."""


def pack(value: Value | Mapping[str, Any]) -> bytes:
    """Encode a value; fields that are None are left out."""
    if isinstance(value, Value):
        value = value.model_dump(exclude_none=True)
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes, kind: type[T], entries: int) -> T | Refusal:
    """Decode and validate one map.

    Returns:
        `malformed` for anything but exactly one map of the declared fields and types: trailing or
        missing bytes, duplicate or non-text keys, extension types, invalid UTF-8, longer arrays or
        maps than `entries`.
    """
    within = _Bounds(_IN_ALL * entries)
    try:
        raw = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            object_pairs_hook=within.unique,
            list_hook=within.counted,
            ext_hook=_no_extensions,
            max_array_len=entries,
            max_map_len=entries,
            max_ext_len=0,
        )
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        return Refusal(Reason.MALFORMED, f"{kind.__name__}: {where}: {first['type']}")
    except (ValueError, msgpack.UnpackException, OverflowError, RecursionError) as error:
        return Refusal(Reason.MALFORMED, f"{kind.__name__}: {type(error).__name__}")


class _Bounds:
    """What one decoding may still read; its hooks see each array and map as soon as it ends."""

    __slots__ = ("_left",)

    def __init__(self, left: int) -> None:
        self._left = left

    def counted(self, items: tuple[object, ...]) -> tuple[object, ...]:
        self._left -= 1 + len(items)
        if self._left < 0:
            raise _NotAllowed("too many entries in all")
        return items

    def unique(self, pairs: list[tuple[object, object]]) -> dict[object, object]:
        self._left -= 1 + len(pairs)
        if self._left < 0:
            raise _NotAllowed("too many entries in all")
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise _NotAllowed("duplicate keys")
        try:
            "".join(entries)  # type: ignore[arg-type] # the quickest way to look at all of them
        except TypeError:
            raise _NotAllowed("a key is not text") from None
        return entries


def _no_extensions(_code: int, _data: bytes) -> object:
    raise _NotAllowed("extension types are not part of the protocol")
