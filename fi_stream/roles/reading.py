"""What a client reads in the event of a result, and in what is within it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fi_stream.aggregation.answers import Reading
from fi_stream.aggregation.facts import Asked
from fi_stream.aggregation.relayed import Relayed, settle_relayed
from fi_stream.aggregation.results import result_payloads
from fi_stream.aggregation.window import Window
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.payloads import ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Protection
from fi_stream.privacy.compatibility import may_leave_simplex
from fi_stream.roles.opening import open_result
from fi_stream.roles.result import read_result
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.header import Ask, Reply
    from fi_stream.federation.federation import Federation
    from fi_stream.roles.result import Result
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Gate, Verified


def reading_of(federation: Federation) -> Reading:
    """How the answers of a federation are read."""
    policy = federation.policy
    noised = may_leave_simplex(policy.form, policy.rules, policy.protections)
    most = policy.confidence_cap
    return Reading(policy.form, len(federation.task.classes), noised and most is None, most)


class ResultReader:
    """Turns verified result events of one client into results; `gate` is the client's.

    Under `blind` it learns from the answers that it read itself, and from no others.
    """

    def __init__(self, federation: Federation, gate: Gate, tally: Tally) -> None:
        policy, self._classes = federation.policy, federation.task.classes
        self._reading = reading_of(federation)
        self._quorum = policy.quorum
        self._protections = policy.protections
        self._gate = gate
        self._tally = tally
        self._window = Window(policy)

    def read(
        self, event: Verified, reply: Reply, ask: Ask, latency_ms: float, *, waits: bool
    ) -> Result | Refusal | None:
        """The result of `ask`.

        Args:
            event: the result, verified.
            reply: of its header.
            ask: what was asked.
            latency_ms: until now.
            waits: whether the grants of responses within it may still come.

        Returns:
            None when it is to be read again, because such a grant is not there yet.
        """
        if ask.protection not in self._protections:
            return Refusal(Reason.PROTECTION_NOT_ALLOWED, ask.protection)
        if ask.protection == Protection.SECAGG:
            opened = open_result(event, self._gate)
            if waits and isinstance(opened, Refusal) and opened.reason is Reason.UNKNOWN_EPOCH:
                return None
        else:
            opened = event.open(ResultPayload)
        if isinstance(opened, Refusal):
            return opened
        payload = opened
        if ask.protection == Protection.BLIND:
            relayed = [self._relayed(event.record, ask, value) for value in payload.responses or ()]
            if waits and any(map(_without_grant, relayed)):
                return None
            asked = Asked(
                reply.client,
                reply.digest,
                ask,
                event.header.roster,
                event.federation.participants,
                sizes=event.federation.sizes,
            )
            settled, refused = settle_relayed(asked, payload, relayed, self._reading, self._quorum)
            for refusal in refused:
                self._tally.refused(refusal, event.record)
            (payload,) = result_payloads([self._window.settle(settled)])
        result = read_result(ask, payload, self._classes, latency_ms)
        if isinstance(result, Refusal):
            return result
        policy = event.federation.policy
        sums = policy.secagg if ask.protection == Protection.SECAGG else None
        honest = None if sums is None else sums.honest
        return replace(result, honest=honest, withstand=policy.withstand)

    def _relayed(self, result: Record, ask: Ask, value: bytes) -> Relayed:
        """A response as if it were found on its topic, in time: there the aggregator found it."""
        source = Partition(catalogue().responses.name, ask.partition)
        at = BrokerMillis(min(result.at, ask.deadline))
        record = Record(source, result.offset, at, ask.query, value)
        event = self._gate.admit_known(record, "response")
        return Relayed(_sender(event, value), event)


def _sender(event: Verified | Refusal, value: bytes) -> str:
    """Whose response it is, or says that it is."""
    if not isinstance(event, Refusal):
        return event.header.sender
    decoded = decode_envelope(value)
    return "" if isinstance(decoded, Refusal) else decoded[1].sender


def _without_grant(relayed: Relayed) -> bool:
    event = relayed.event
    return isinstance(event, Refusal) and event.reason is Reason.UNKNOWN_EPOCH
