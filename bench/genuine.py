"""Genuine events, by the door where they come in: to be spoilt, and to tell what may pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import job, mutations
from bench.doors import DOORS
from fi_stream.events.envelope import decode_envelope, event_digest
from fi_stream.events.grant import decode_grant
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Abstain, Outcome, QueryPayload, ResultPayload, frame
from fi_stream.events.query_id import new_query_id
from fi_stream.events.refusals import Refusal
from fi_stream.federation.rows import encode_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from bench.in_process import InProcess
    from fi_stream.events.header import Ask

GOLDEN = tuple(
    file.read_bytes()
    for file in sorted((Path(__file__).parent.parent / "topics" / "golden").glob("*.v1.bin"))
    if not file.name.startswith("dead-letter")
)
"""The events of every kind that our contract on the wire keeps; of another federation."""

LIFE_MS = 25_000
SOME = 100


class Genuine:
    """Events of the members' own, made now; what they seal is hostile if there is `chance`."""

    def __init__(self, members: InProcess, chance: Random | None = None) -> None:
        self._members = members
        self._chance = chance
        asked = [self._query() for _ in range(SOME)]
        queries = [value for _, value, _ in asked]
        responses = [
            self._reply(f"p{number}", ask, digest, "abstain")
            for ask, _, digest in asked
            for number in job.participants()
        ]
        results = [self._reply("aggregator", ask, digest, "result") for ask, _, digest in asked]
        grants = [epoch.grant for name in members.roles for epoch in members.new_epochs(name)]
        kinds = (queries, queries, responses, results, results, grants)
        self.at = dict(zip(DOORS, kinds, strict=True))
        self.all = [*queries, *responses, *results, *grants, *GOLDEN]

    def bystander(self) -> tuple[bytes, bytes]:
        """A response under an epoch that nobody heard of, and the grant of that epoch."""
        (epoch,) = self._members.new_epochs("p1")
        ask = self._ask()
        reply = Reply(client="client", digest=bytes(32), kind="abstain", model="m")
        return epoch.seal(ask, reply, frame(Abstain(reason=1))).value, epoch.grant

    def _ask(self) -> Ask:
        now = self._members.clock.now()
        return self._members.ask(new_query_id(now), now + LIFE_MS)

    def _query(self) -> tuple[Ask, bytes, bytes]:
        _, inputs = encode_rows(job.questions().rows[0], self._members.federation.task)
        ask = self._ask()
        payload = self._payload(frame(QueryPayload(inputs=inputs)))
        sealed = self._members.epochs["client"].seal(ask, None, payload)
        return ask, sealed.value, sealed.digest

    def _reply(self, sender: str, ask: Ask, digest: bytes, kind: str) -> bytes:
        reply = Reply.model_validate({"client": "client", "digest": digest, "kind": kind})
        said = ResultPayload(outcome=Outcome.NO_QUORUM) if kind == "result" else Abstain(reason=1)
        return self._members.epochs[sender].seal(ask, reply, self._payload(frame(said))).value

    def _payload(self, good: bytes) -> bytes:
        if self._chance is None:
            return good
        make = self._chance.choice((mutations.mutated, mutations.misshapen))
        body = make(self._chance, (good[4:].rstrip(b"\0"),))
        return self._chance.choice((b"", len(body).to_bytes(4, "big"))) + body


def identity(value: bytes) -> bytes | None:
    """What an event's tags, or a grant's signature, are over; None for what cannot be read."""
    event = decode_envelope(value)
    if not isinstance(event, Refusal):
        return event_digest(event[0].header, event[0].nonce, event[0].sealed)
    grant = decode_grant(value)
    return None if isinstance(grant, Refusal) else grant[0].grant


def identities(values: Sequence[bytes]) -> frozenset[bytes | None]:
    """Those of genuine events."""
    return frozenset(map(identity, values))
