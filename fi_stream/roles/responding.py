"""A participant's response as it is sealed: an answer, its two shares, or an abstain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.header import Reply
from fi_stream.events.payloads import Abstain, frame, response_length
from fi_stream.federation.policy import Protection
from fi_stream.roles.labels import tool_labels, trace_of
from fi_stream.roles.own_epochs import Need
from fi_stream.roles.parting import Parted
from fi_stream.sealing.seeds import seal_seed
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Outgoing, Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fi_stream.events.header import Purpose
    from fi_stream.events.payloads import Answer
    from fi_stream.roles.answering import Asked
    from fi_stream.roles.own_epochs import OwnEpochs


def needs(query: Asked) -> Iterator[Need]:
    """What a response to a query is sealed under."""
    yield _need(query, "response")
    if query.event.header.ask.protection == Protection.SECAGG:
        yield _need(query, "share")


def response(
    own: OwnEpochs, query: Asked, payload: Answer | Parted | Abstain, version: str
) -> Outgoing:
    """Seal a response to a query; `version` is the model's.

    All responses to one query have one length, whatever they say.
    """
    header, ask = query.event.header, query.event.header.ask
    federation, share = query.event.federation, None
    if isinstance(payload, Parted):
        epoch, asked = own.find(_need(query, "share")), (header.sender, query.event.digest)
        share = seal_seed(epoch, ask, asked, payload.share, payload.seed)
        payload = payload.answer
    reply = Reply(
        client=header.sender,
        digest=query.event.digest,
        kind="abstain" if isinstance(payload, Abstain) else "answer",
        model=version,
        share=share,
    )
    body = frame(payload, response_length(ask.rows, federation.answer_width))
    sealed = own.find(_need(query, "response")).seal(ask, reply, body)
    target = Partition(catalogue().responses.name, ask.partition)
    labels = tool_labels(
        "response", federation.task.hash, ask, trace=trace_of(query.event.record.headers)
    )
    return Outgoing(target, ask.query, sealed.value, labels)


def _need(query: Asked, purpose: Purpose) -> Need:
    header = query.event.header
    return Need(header.roster, header.ask.protection, header.sender, purpose)
