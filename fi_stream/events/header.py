"""The clear part of an event: what is decided before, or without, opening it (DESIGN 7)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import StringConstraints

from fi_stream.values import Bytes16, Bytes32, Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""The schema version that this code writes, and the newest that it reads."""

EventType = Literal["query", "response", "result", "proposal", "half"]
ReplyKind = Literal["answer", "abstain", "result", "proposal", "refusal", "half"]
Purpose = Literal["query", "response", "result", "proposal", "half", "share"]
"""What an epoch seals: events of one type, or the shares in the headers of responses."""

KINDS: Mapping[EventType, frozenset[ReplyKind | None]] = MappingProxyType(
    {
        "query": frozenset({None}),
        "response": frozenset({"answer", "abstain"}),
        "result": frozenset({"result"}),
        "proposal": frozenset({"proposal", "refusal"}),
        "half": frozenset({"half"}),
    }
)
"""The kinds of reply that an event of each type can be; a query is none."""

_Short = Annotated[str, StringConstraints(max_length=128)]


class Ask(Value):
    """What is asked, the same in the query, its responses and its result.

    `created` and `deadline` are milliseconds since 1970 in broker time.
    """

    query: Bytes16
    partition: Annotated[int, Ge(0), Le(2**31 - 1)]
    rule: _Short
    rows: Annotated[int, Ge(1), Le(2**31 - 1)]
    protection: _Short
    created: Counter
    deadline: Counter

    def kept(self) -> Ask:
        """The same, to be held by the hundred thousand.

        pydantic keeps a set of field names in each value that it validates, larger than the rest.
        """
        return Ask.model_construct(_ASK_FIELDS, **vars(self))


_ASK_FIELDS = set(Ask.model_fields)


class Share(Value):
    """The helper's share of an answer under `secagg`: a seed, sealed under an epoch of its own.

    `id` names both shares of the answer, `epoch` is of purpose `share`.
    """

    id: Bytes16
    epoch: Bytes16
    nonce: Annotated[bytes, Len(12, 12)]
    sealed: Annotated[bytes, Len(48, 48)]


class Reply(Value):
    """Which query event a response or result belongs to, and what kind of reply it is.

    The identity of a query is its client, its id and the SHA-256 of the event that asked it.
    `model` is the version of the model that answered; a result leaves it empty. `share` comes with
    an answer under `secagg` only.
    """

    client: MemberId
    digest: Bytes32
    kind: ReplyKind
    model: _Short = ""
    share: Share | None = None

    def fields(self) -> dict[str, object]:
        """As it is packed: what is None is left out."""
        fields = dict(vars(self))
        share = fields.pop("share")
        return fields if share is None else {**fields, "share": vars(share)}


class Header(Value):
    """Every clear field of an event. The sender of a response is its participant."""

    type: EventType
    v: Annotated[int, Ge(1), Le(2**31 - 1)]
    task: Bytes32
    roster: Annotated[int, Ge(1), Le(2**31 - 1)]
    sender: MemberId
    epoch: Bytes16
    ask: Ask
    reply: Reply | None = None
