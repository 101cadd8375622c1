"""Recorded traffic: a federation's queries, answers and results as they were opened, in one file.

A file is frames, one after another: a length of four bytes, big-endian, and so many bytes of one
MessagePack map. The first is a `Head`, every other a `Recorded`. What a reader does not know it
ignores; a frame that is cut off ends the file (whoever wrote it was stopped).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Final, Literal

from annotated_types import Ge, Gt, Le, Len
from pydantic import FiniteFloat

from fi_stream.events.codec import SEALED_ENTRIES, pack, unpack
from fi_stream.events.header import Ask
from fi_stream.events.payloads import ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Tensor
from fi_stream.values import Bytes32, Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MOST_BYTES: Final = 64 * 2**20
"""Of one frame."""


class Head(Value):
    """What the file is: its version, and the classes of the task."""

    kind: Literal["fi_stream recording"] = "fi_stream recording"
    v: Annotated[int, Ge(1)] = 1
    classes: Annotated[tuple[str, ...], Len(2, SEALED_ENTRIES)]


class RecordedAnswer(Value):
    """One participant's answer as a rule reads it: FP64 [rows, classes], appended at `at`.

    `size` is how many training examples of it were believed, if it said. `own` is FP64 [rows], the
    weights that its answer carried (in a trace, those of `competence_density`), and `standing` what
    was learnt of it from past queries, if the rule that decided reads that.
    """

    member: MemberId
    model: str
    at: Counter
    prediction: Tensor
    size: Annotated[float, Ge(0), Le(2**53)] | None = None
    own: Tensor | None = None
    standing: Annotated[FiniteFloat, Ge(0)] | None = None


class Recorded(Value):
    """One query with its outcome.

    `participants` were to answer; `answers` came in time and could be opened, whatever the outcome.
    `share` is the most of all weight that one participant might have, if the policy had a bound;
    `gate` is whether it had a gate.
    `truth` is INT64 [rows], where somebody knows the right labels.
    """

    client: MemberId
    ask: Ask
    digest: Bytes32
    participants: Annotated[tuple[MemberId, ...], Len(0, SEALED_ENTRIES)]
    quorum: Annotated[int, Ge(1)]
    answers: Annotated[tuple[RecordedAnswer, ...], Len(0, SEALED_ENTRIES)]
    result: ResultPayload
    share: Annotated[float, Gt(0), Le(1)] | None = None
    gate: bool = False
    truth: Tensor | None = None


def framed(value: Head | Recorded) -> bytes:
    """A value as it stands in the file."""
    body = pack(value)
    return struct.pack(">I", len(body)) + body


def read_head(file: BinaryIO) -> Head | Refusal:
    """The first frame of a file."""
    body = _body(file)
    if body is None or isinstance(body, Refusal):
        return body or Refusal(Reason.MALFORMED, "no recording: it is empty")
    head = unpack(body, Head, SEALED_ENTRIES)
    if isinstance(head, Head) and head.v != 1:
        return Refusal(Reason.UNSUPPORTED_VERSION, f"version {head.v} of a recording")
    return head


def read_queries(file: BinaryIO) -> Iterator[Recorded | Refusal]:
    """The frames after the head, until the file ends or one cannot be read, which comes last."""
    while (body := _body(file)) is not None:
        found = body if isinstance(body, Refusal) else unpack(body, Recorded, SEALED_ENTRIES)
        yield found
        if isinstance(found, Refusal):
            return


def _body(file: BinaryIO) -> bytes | Refusal | None:
    """The bytes of the next frame; None at the end, also where the last one is cut off."""
    prefix = file.read(4)
    if len(prefix) < 4:
        return None
    (length,) = struct.unpack(">I", prefix)
    if length > MOST_BYTES:
        return Refusal(Reason.MALFORMED, f"a frame of {length} bytes")
    body = file.read(length)
    return body if len(body) == length else None
