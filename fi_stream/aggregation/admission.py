"""Whether a verified query may be answered at all: the same answer in every role (DESIGN 8.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.envelope import event_bytes
from fi_stream.events.payloads import framed_length, response_length
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Protection
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.header import Ask
    from fi_stream.federation.federation import Federation


def refuse_query(ask: Ask, federation: Federation, at: BrokerMillis) -> Refusal | None:
    """Why a query that was appended at `at` is refused; None when it may be answered.

    What makes it stale is said first, whatever else is wrong: a stale query gets no result.
    """
    policy = federation.policy
    limits = policy.limits
    if at > ask.deadline:
        return Refusal(Reason.LATE, f"asked {at - ask.deadline} ms after its deadline")
    if abs(ask.created - at) > limits.max_deadline_ms + limits.max_skew_ms:
        return Refusal(Reason.CLOCK_SKEW, f"made {at - ask.created} ms before it was appended")
    if ask.protection not in policy.protections:
        return Refusal(Reason.PROTECTION_NOT_ALLOWED, ask.protection)
    if ask.rule not in policy.rules:
        return Refusal(Reason.RULE_NOT_ALLOWED, ask.rule)
    if ask.rows > limits.max_rows or result_bytes(federation, ask) > limits.max_message_bytes:
        return Refusal(Reason.TOO_LARGE, f"{ask.rows} rows")
    if ask.deadline - at > limits.max_deadline_ms + limits.max_skew_ms:
        return Refusal(Reason.DEADLINE_TOO_FAR, f"{ask.deadline - at} ms away")
    return None


def forgotten_at(ask: Ask, federation: Federation) -> BrokerMillis:
    """When a query may be forgotten: a copy that is appended later is stale by itself.

    That holds for a query whose deadline is years away, too. The skew is for what is read a little
    after it was appended, by a clock that is a little fast.
    """
    limits = federation.policy.limits
    stale = ask.created + limits.max_deadline_ms + limits.max_skew_ms
    return BrokerMillis(min(ask.deadline, stale) + limits.max_skew_ms)


def result_bytes(federation: Federation, ask: Ask) -> int:
    """About how large a result is at most.

    Labels, scores, and a line for each member; under `blind` the response of each participant;
    under `secagg` both halves of the sum, the leader's in an event of its own.
    """
    members = len(federation.roster.members)
    if ask.protection == Protection.SECAGG:
        half = response_length(ask.rows, len(federation.task.classes) + 1)
        leaders = event_bytes(framed_length(half + 256 * members), 1)
        return event_bytes(framed_length(half + leaders + 96 * members), members)
    if ask.protection == Protection.BLIND:
        relayed = len(federation.participants) * federation.response_bytes(ask.rows)
        return event_bytes(framed_length(relayed + 256 * members), members)
    return response_length(ask.rows, len(federation.task.classes) + 1) + 256 * members
