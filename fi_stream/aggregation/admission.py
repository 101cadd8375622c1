"""Whether a verified query may be answered at all: the same answer in every role (DESIGN 8.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.payloads import response_length
from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from fi_stream.events.header import Ask
    from fi_stream.federation.federation import Federation
    from fi_stream.values import BrokerMillis


def refuse_query(ask: Ask, federation: Federation, at: BrokerMillis) -> Refusal | None:
    """Why a query that was appended at `at` is refused; None when it may be answered."""
    policy = federation.policy
    limits = policy.limits
    if ask.protection not in policy.protections:
        return Refusal(Reason.PROTECTION_NOT_ALLOWED, ask.protection)
    if ask.rule not in policy.rules:
        return Refusal(Reason.RULE_NOT_ALLOWED, ask.rule)
    if ask.rows > limits.max_rows or result_bytes(federation, ask.rows) > limits.max_message_bytes:
        return Refusal(Reason.TOO_LARGE, f"{ask.rows} rows")
    if at > ask.deadline:
        return Refusal(Reason.LATE, f"asked {at - ask.deadline} ms after its deadline")
    if ask.deadline - at > limits.max_deadline_ms + limits.max_skew_ms:
        return Refusal(Reason.DEADLINE_TOO_FAR, f"{ask.deadline - at} ms away")
    if abs(ask.created - at) > limits.max_deadline_ms + limits.max_skew_ms:
        return Refusal(Reason.CLOCK_SKEW, f"made {at - ask.created} ms before it was appended")
    return None


def result_bytes(federation: Federation, rows: int) -> int:
    """About how large a result of so many rows is: labels, scores, and a line for each member."""
    members = len(federation.roster.members)
    return response_length(rows, len(federation.task.classes) + 1) + 256 * members
