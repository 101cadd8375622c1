"""What a client makes of the responses that an aggregator relayed to it without reading them.

The client does what an aggregator does under `trusted`: it refuses what is unfit, counts the rest,
and decides by the same rule, so that the same answers give the same result to the bit (DESIGN 2).
Pure: the events are verified, or refused, before they come here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.aggregation.answers import open_response
from fi_stream.aggregation.facts import Settled
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.aggregation.answers import Reading
    from fi_stream.aggregation.facts import Asked, Given
    from fi_stream.events.payloads import ResultPayload
    from fi_stream.sealing.gate import Verified
    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True)
class Relayed:
    """A response as it was found in a result: whose it says it is, and what the gate made of it."""

    member: str
    event: Verified | Refusal


def settle_relayed(
    asked: Asked, payload: ResultPayload, relayed: Sequence[Relayed], reading: Reading, quorum: int
) -> tuple[Settled, list[Refusal]]:
    """Settle one's own query from what was relayed.

    Args:
        asked: the query; `participants` are to answer it.
        payload: of the result. What it says of labels, scores and contributors is not looked at:
            whoever relayed the answers does not know them.
        relayed: what `payload.responses` holds, in its order; of each member the first counts.
        reading: of the federation.
        quorum: of its policy.

    Returns:
        The query with its outcome, and a refusal for each response that cannot be used. Its sender
        is missing for that reason.
    """
    given: dict[MemberId, Given] = {}
    missing: dict[MemberId, Reason | None] = dict.fromkeys(sorted(asked.participants))
    told = {one.member: one for one in payload.missing if one.member in missing}
    missing |= {member: _reason(one.reason) for member, one in told.items()}
    retry = {member: one.retry_ms for member, one in told.items() if one.retry_ms is not None}
    refused = []
    for each in relayed:
        read, refusal = _read(asked, each, reading, known=each.member in given)
        if refusal is not None:
            refused.append(refusal)
        if read is not None:
            given[each.member] = read
            missing[each.member] = read.reason
            if read.retry_ms is not None:
                retry[each.member] = read.retry_ms
        elif refusal is not None and each.member in missing and each.member not in given:
            missing[each.member] = missing[each.member] or refusal.reason
    answers = {member: given[member] for member in sorted(given) if given[member].counts}
    if payload.outcome is Outcome.REJECTED:
        outcome = Outcome.REJECTED
    elif len(answers) < quorum:
        outcome = Outcome.NO_QUORUM
    elif all(member in given or why for member, why in missing.items()):
        outcome = Outcome.COMPLETE
    else:
        outcome = Outcome.PARTIAL
    absent = {member: why for member, why in missing.items() if member not in answers}
    return Settled(asked, outcome, answers, absent, _reason(payload.reason), retry), refused


def _read(
    asked: Asked, relayed: Relayed, reading: Reading, *, known: bool
) -> tuple[Given | None, Refusal | None]:
    """A response opened; a refusal alone when it does not belong to this query."""
    event, member = relayed.event, relayed.member
    if isinstance(event, Refusal):
        return None, event
    header = event.header
    reply = header.reply
    if member not in asked.participants:
        return None, Refusal(Reason.WRONG_ROLE, f"{member} is not to answer this query")
    if known:
        return None, Refusal(Reason.DUPLICATE, f"{member} has answered")
    theirs = None if reply is None else (reply.client, reply.digest, header.ask)
    if reply is None or theirs != (asked.client, asked.digest, asked.ask):
        return None, Refusal(Reason.WRONG_QUERY, f"{member} answers another event")
    return open_response(event, reply, reading)


def _reason(code: int | None) -> Reason | None:
    return None if code is None else Reason.from_code(code)
