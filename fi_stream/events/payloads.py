"""What is sealed inside a query, a response and a result; framed to a length that tells nothing."""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Annotated, TypeVar

from annotated_types import Ge, Le, Len
from pydantic import Field, FiniteFloat, StringConstraints

from fi_stream.events.codec import SEALED_ENTRIES, pack, unpack
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Tensor
from fi_stream.values import MemberId, Value

T = TypeVar("T", bound=Value)
_Short = Annotated[str, StringConstraints(max_length=128)]
_Code = Annotated[int, Ge(1), Le(2**15)]
_Millis = Annotated[int, Ge(0), Le(2**31 - 1)]
_Epsilon = Annotated[FiniteFloat, Ge(0)]

WEIGHT = "weight"
"""The second tensor of an answer to a rule that reads the participant's own weight of each row."""

_FRAME_STEP = 64
_RESPONSE_ROOM = 512


class Outcome(StrEnum):
    """How a query ended: exactly one of these."""

    COMPLETE = "complete"
    DECIDED = "decided"
    PARTIAL = "partial"
    NO_QUORUM = "no_quorum"
    REJECTED = "rejected"


class QueryPayload(Value):
    """The inputs of a query, rows first."""

    inputs: Annotated[tuple[Tensor, ...], Len(1, 16)]


class Noise(Value):
    """The noise that a participant declares: its mechanism, and what it cost.

    `epsilon` and `total` bound what this client learnt from the participant's answers to this
    query and to all its queries so far.
    """

    mechanism: _Short
    epsilon: _Epsilon
    delta: Annotated[FiniteFloat, Ge(0), Le(1)]
    total: _Epsilon


class Answer(Value):
    """A participant's prediction in the federation's form.

    `outputs` is the prediction, and FP64 [rows] named `weight` where the query's rule reads one.
    `scale` is the number of integer steps in 1.0 when the prediction is integers on a grid.
    """

    form: _Short
    outputs: Annotated[tuple[Tensor, ...], Len(1, 16)]
    scale: Annotated[int, Ge(1), Le(2**32)] | None = None
    noise: Noise | None = None


class Abstain(Value):
    """Why a participant does not answer; `reason` is a wire code of `Reason`.

    `retry_ms` is in how many milliseconds it expects to have room, when it has none now.
    """

    reason: _Code
    retry_ms: _Millis | None = None


class Contributor(Value):
    """A participant whose answer is in the result.

    `weight` is the part of 1 that it had of all weight, the mean over the rows, if known.
    """

    member: MemberId
    model: _Short
    noise: Noise | None = None
    weight: Annotated[FiniteFloat, Ge(0), Le(1)] | None = None


class Missing(Value):
    """A participant whose answer is not in the result; without a reason it was silent.

    `retry_ms` is as it said itself.
    """

    member: MemberId
    reason: _Code | None = None
    retry_ms: _Millis | None = None


class ResultPayload(Value):
    """What became of a query; `outputs` are label INT64 [rows] and scores FP64 [rows, classes].

    Under `blind` they are the client's to find: `responses` holds the event of each participant
    that answered or abstained, as it came, and `missing` the others. `noise` is what the aggregator
    itself added to the votes: it counts against the client alone. `rule` is the one that decided,
    where that is not the one that was asked for.
    """

    outcome: Annotated[Outcome, Field(strict=False)]
    reason: _Code | None = None
    outputs: Annotated[tuple[Tensor, ...], Len(0, 16)] = ()
    contributors: Annotated[tuple[Contributor, ...], Len(0, SEALED_ENTRIES)] = ()
    missing: Annotated[tuple[Missing, ...], Len(0, SEALED_ENTRIES)] = ()
    responses: Annotated[tuple[bytes, ...], Len(0, SEALED_ENTRIES)] | None = None
    noise: Noise | None = None
    rule: _Short | None = None


def response_length(rows: int, outputs: int) -> int:
    """The one length, in bytes, of every response to a query: answers and abstains alike."""
    return _RESPONSE_ROOM + rows * outputs * 8


def framed_length(length: int) -> int:
    """The next multiple of 64."""
    return length + -length % _FRAME_STEP


def frame(payload: Value, at_least: int = 0) -> bytes:
    """Pack a payload and pad it with zeros to `at_least` bytes and a multiple of 64."""
    body = pack(payload)
    length = framed_length(max(4 + len(body), at_least))
    return b"".join((struct.pack(">I", len(body)), body, bytes(length - 4 - len(body))))


def unframe(data: bytes, kind: type[T]) -> T | Refusal:
    """Read a payload out of its frame: `malformed` unless only it and zeros are in it."""
    if len(data) < 4:
        return Refusal(Reason.MALFORMED, f"{kind.__name__}: no frame")
    end = 4 + struct.unpack_from(">I", data)[0]
    if end > len(data) or data.count(0, end) != len(data) - end:
        return Refusal(Reason.MALFORMED, f"{kind.__name__}: frame")
    return unpack(data[4:end], kind, SEALED_ENTRIES)
