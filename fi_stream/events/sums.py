"""What is sealed inside the events of a secure sum: a proposal, its refusal, and both halves."""

from __future__ import annotations

from typing import Annotated, Final

from annotated_types import Ge, Le, Len
from pydantic import Field

from fi_stream.events.codec import SEALED_ENTRIES
from fi_stream.events.payloads import Contributor, Missing, Outcome
from fi_stream.events.tensors import Tensor
from fi_stream.values import Bytes16, Bytes32, Counter, MemberId, Value

HALF: Final = "half"
"""The form of an answer under `secagg`, and the name of its one tensor: the leader's share."""

_Event = Annotated[bytes, Len(1, 64 * 2**20)]


class Chosen(Value):
    """One answer of a proposed set: whose, and the id of its shares."""

    member: MemberId
    share: Bytes16


class ProposalPayload(Value):
    """A set of answers, from the leader to the helper.

    `read` is the offset up to which the leader had read the responses. `half` is the bytes of an
    event of type `half`, sealed to the client, which the helper passes on.
    """

    members: Annotated[tuple[Chosen, ...], Len(1, SEALED_ENTRIES)]
    read: Counter
    half: _Event


class RefusalPayload(Value):
    """Why the helper does not open a set, and the members whose shares it cannot open.

    `members` is the set's SHA-256, `reason` a wire code of `Reason`.
    """

    members: Bytes32
    reason: Annotated[int, Ge(1), Le(2**15)]
    bad: Annotated[tuple[Missing, ...], Len(0, SEALED_ENTRIES)] = ()


class HalfPayload(Value):
    """The leader's half of a sum, and what it knows of the answers in it.

    `total` is UINT64 [rows, classes + 1], modulo 2^64; with the helper's it is the sum in integer
    steps, `scale` of which are 1.0. `members` is the set's SHA-256.
    """

    outcome: Annotated[Outcome, Field(strict=False)]
    members: Bytes32
    total: Tensor
    scale: Annotated[int, Ge(1), Le(2**32)]
    contributors: Annotated[tuple[Contributor, ...], Len(1, SEALED_ENTRIES)]
    missing: Annotated[tuple[Missing, ...], Len(0, SEALED_ENTRIES)] = ()


class ReleasePayload(Value):
    """The result of a query under `secagg`: the helper's half of the sum, and the leader's event.

    `total` is UINT64 [rows, classes + 1], modulo 2^64, `members` the SHA-256 of the set that it is
    of.
    """

    members: Bytes32
    total: Tensor
    half: _Event
