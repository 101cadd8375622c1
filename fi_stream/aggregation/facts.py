"""What the join is told and what it says: queries, answers, and queries with their outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.events.header import Ask
    from fi_stream.events.payloads import Noise, Outcome
    from fi_stream.events.refusals import Reason
    from fi_stream.values import BrokerMillis, MemberId

Key = tuple[str, bytes]
"""A query's client and id. The id alone is not enough: two clients may choose the same."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A verified query: the event at `offset`, read when results up to `results` were known.

    `participants` are those of version `roster`, under which it was asked: they are to answer.
    `sizes` is how many training examples of each are believed.
    """

    client: MemberId
    digest: bytes
    ask: Ask
    roster: int
    participants: frozenset[MemberId]
    offset: int = 0
    results: int = 0
    sizes: Mapping[MemberId, float] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> Key:
        """What its responses find it by."""
        return self.client, self.ask.query


@dataclass(frozen=True, slots=True)
class Answered:
    """Who answered which query event, and where and when the broker appended that.

    `rows`, `protection` and `rule` are of the query, as the answer's own header says.
    """

    member: MemberId
    digest: bytes
    at: BrokerMillis
    offset: int = 0
    rows: int = 1
    protection: Protection = Protection.TRUSTED
    rule: str = "soft"


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """The leader's share of an answer, [rows, columns] modulo 2^64, and the id of both shares."""

    share: bytes
    values: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A response: a prediction [rows, classes], or the reason why there is none.

    Where only the client that asked may read it, `relayed` is its event as it came, and `unread`
    says that its header calls it an answer. Under `secagg` a `half` is in the prediction's place.
    `own` is the weight of each row, [rows], that the participant computed for rules that read it.
    """

    answered: Answered
    model: str
    prediction: NDArray[np.float64] | None = field(repr=False)
    reason: Reason | None = None
    noise: Noise | None = None
    retry_ms: int | None = None
    relayed: bytes | None = None
    unread: bool = False
    half: Half | None = None
    own: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def counts(self) -> bool:
        """Whether it is an answer: abstains are none."""
        return self.unread or self.prediction is not None or self.half is not None


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A query with its outcome: what to evaluate and send; `answers` in order of member id.

    `retry_ms` is what those of the `missing` said who expect to have room later. `relayed` is what
    came, answers and abstains, in order of member id, of a query whose answers only its client may
    read. `first` is the lowest offset of its responses.

    The window of past queries (`window`) may add: `standing`, what it learnt of each participant;
    `rule`, which decides in place of the one that was asked for; `left_out`, the answers that came
    and do not count, whose members are among the `missing`; and `share`, the most of all weight
    that one participant may have.
    """

    asked: Asked
    outcome: Outcome
    answers: Mapping[MemberId, Given]
    missing: Mapping[MemberId, Reason | None]
    reason: Reason | None = None
    retry_ms: Mapping[MemberId, int] = field(default_factory=dict)
    relayed: Mapping[MemberId, bytes] = field(default_factory=dict)
    first: int | None = None
    standing: Mapping[MemberId, float] = field(default_factory=dict)
    rule: str | None = None
    left_out: Mapping[MemberId, Given] = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An open query whose answers may already be enough; from `missing` participants none came."""

    asked: Asked
    answers: Mapping[MemberId, Given]
    missing: int


@dataclass(frozen=True, slots=True)
class Marks:
    """From where a partition must be read again so that no open query is forgotten (DESIGN 8.4).

    Each is an offset, or None when nothing is held there: what was read need not be read again.
    """

    queries: int | None
    responses: int | None
    results: int | None
