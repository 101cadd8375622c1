"""What a client asks: rows checked against the task and the policy, and sealed as a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.errors import QueryError
from fi_stream.events.header import Ask
from fi_stream.events.payloads import QueryPayload, frame
from fi_stream.federation.rows import encode_rows
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.tensors import Tensor
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.rows import Rows
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.epochs import OwnEpoch, Sealed


@dataclass(frozen=True, slots=True)
class Wanted:
    """A query to be; `seconds` from when it is sealed is its deadline."""

    inputs: tuple[Tensor, ...]
    rows: int
    rule: str
    seconds: float


def wanted(federation: Federation, rows: Rows, deadline: float, rule: str | None) -> Wanted:
    """Check what shall be asked.

    Raises:
        QueryError: it does not fit the task or the policy.
    """
    policy = federation.policy
    seconds = _checked_deadline(deadline, policy.limits.max_deadline_ms)
    rule = rule or federation.default_rule
    if rule not in policy.rules:
        raise QueryError(f"rule {rule!r} is not in the policy: {', '.join(policy.rules)}")
    count, inputs = encode_rows(rows, federation.task)
    if count > policy.limits.max_rows:
        raise QueryError(f"{count} rows at once; the policy allows {policy.limits.max_rows}")
    return Wanted(inputs, count, rule, seconds)


def ask_of(seat: Seat, query: bytes, partition: int, what: Wanted) -> Ask:
    """A query under this id, asked now."""
    now = seat.clock.now()
    return Ask(
        query=query,
        partition=partition,
        rule=what.rule,
        rows=what.rows,
        protection=seat.federation.default_protection.value,
        created=now,
        deadline=BrokerMillis(now + round(what.seconds * 1000)),
    )


def seal(seat: Seat, epoch: OwnEpoch, ask: Ask, what: Wanted) -> Sealed:
    """Seal a query.

    Raises:
        QueryError: it is larger than the policy allows.
    """
    sealed = epoch.seal(ask, None, frame(QueryPayload(inputs=what.inputs)))
    most = seat.federation.policy.limits.max_message_bytes
    if len(sealed.value) > most:
        raise QueryError(f"{len(sealed.value)} bytes, and an event may have {most}: ask fewer rows")
    return sealed


def _checked_deadline(seconds: float, most_ms: int) -> float:
    if not 0 < seconds <= most_ms / 1000:
        raise QueryError(
            f"a deadline of {seconds:g} s: it must be in the future, and the policy allows at most "
            f"{most_ms / 1000:g} s"
        )
    return seconds
