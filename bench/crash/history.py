"""What one schedule left on the topics, as values: all that the checker sees.

Times are milliseconds since 1970 in broker time; queries are named by their id in hexadecimal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Query:
    """The first event under a query's id."""

    id: str
    digest: str
    at: int
    deadline: int
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """One event of a participant: its one-hot `label`, or the `reason` why there is none.

    `cost` is what it declares of its noise, in billionths of epsilon.
    """

    query: str
    digest: str
    member: str
    at: int
    label: int | None
    reason: str | None = None
    event: str = ""
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """One result: the label and the share of each class, who is in it, and why others are not.

    `reason` is why the query was rejected.
    """

    query: str
    digest: str
    at: int
    outcome: str
    label: int | None = None
    shares: tuple[float, ...] = ()
    contributors: tuple[str, ...] = ()
    missing: Mapping[str, str | None] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of a query; without an outcome: that it is unknown."""

    query: str
    outcome: str | None
    label: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class History:
    """One schedule; `responses` and `results` are in the order of their partition.

    `served` are the times in which an aggregator was ready and the broker up, `reserved` what each
    participant's ledger holds in the end, `untold` how many queries a client that was never killed
    was told nothing of, `until` when the topics were read to the end.
    """

    queries: tuple[Query, ...]
    responses: tuple[Response, ...]
    results: tuple[Result, ...]
    served: tuple[Span, ...]
    until: int
    told: tuple[Told, ...] = ()
    reserved: Mapping[str, int] = field(default_factory=dict)
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What is promised.

    A result comes at most `bound_ms` after its deadline, and the time in which nobody served. An
    answer that came `edge_ms` before the deadline is counted: a query closes a hop earlier, by a
    clock that is known to some milliseconds.
    """

    participants: tuple[str, ...]
    quorum: int
    bound_ms: int
    edge_ms: int
