"""A federation in memory: identities, the public value, each member's gate, and a manual clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.events.codec import pack
from fi_stream.events.envelope import Envelope, decode_envelope, encode_envelope
from fi_stream.events.header import Ask, Header, Reply
from fi_stream.events.payloads import (
    Abstain,
    Answer,
    Outcome,
    QueryPayload,
    ResultPayload,
    frame,
)
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.federation import Federation
from fi_stream.federation.policy import Limits, Policy, Protection
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rosters import Rosters
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.sealing.audiences import Audience, audiences
from fi_stream.sealing.epochs import OwnEpoch, Sealed, new_epoch
from fi_stream.sealing.gate import Gate, Verified
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.events.header import EventType
    from fi_stream.values import Value

TASK = Task(
    kind="multiclass",
    classes=("cat", "dog", "bird"),
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,)),),
)
ROLES = {
    "p1": Role.PARTICIPANT,
    "p2": Role.PARTICIPANT,
    "p3": Role.PARTICIPANT,
    "agg": Role.AGGREGATOR,
    "alice": Role.CLIENT,
    "bob": Role.CLIENT,
}
TOPICS = {"query": "fi.queries", "response": "fi.responses", "result": "fi.results"}
KINDS = ("query", "response", "result")
SENDER = {"query": "alice", "response": "p1", "result": "agg"}
READER = {"query": "p1", "response": "agg", "result": "alice"}
PAYLOAD: dict[str, type[Value]] = {
    "query": QueryPayload,
    "response": Abstain,
    "result": ResultPayload,
}


@dataclass
class Cast:
    """Members with their keys, at one moment of a manual clock."""

    federation: Federation
    identities: dict[str, Identity]
    time: ManualClock = field(default_factory=ManualClock)
    gates: dict[str, Gate] = field(default_factory=dict)
    rings: dict[str, Keyring] = field(default_factory=dict)

    @cached_property
    def rosters(self) -> Rosters:
        """What everybody knows of the roster."""
        return Rosters(self.federation)

    @property
    def now(self) -> BrokerMillis:
        return self.time.wall()

    def gate(self, member: str) -> Gate:
        """The gate of that member; it has accepted every grant that was spread since it is used."""
        if member not in self.gates:
            limits = self.federation.policy.limits
            identities = Identities(self.identities[member])
            self.rings[member] = Keyring(self.rosters, member, identities)
            clock = BrokerClock(self.time, Millis(limits.max_skew_ms))
            self.gates[member] = Gate(self.rosters, self.rings[member], clock)
        return self.gates[member]

    def ring(self, member: str) -> Keyring:
        """The keyring behind that member's gate."""
        self.gate(member)
        return self.rings[member]

    def epoch(self, member: str, opener: str | None = None, *, spread: bool = True) -> OwnEpoch:
        """A new epoch of that member, granted to everybody's gate if `spread`.

        `opener` picks the client whose results an aggregator seals.
        """
        event_type, audience = next(
            (event_type, audience)
            for event_type, audience in audiences(self.federation, ROLES[member])
            if opener is None or opener in audience.openers
        )
        made = self.made_epoch(member, event_type, audience)
        if spread:
            self.spread(made)
        return made

    def made_epoch(self, sender: str, event_type: EventType, audience: Audience) -> OwnEpoch:
        """An epoch that anyone might make, allowed or not; nobody has its grant."""
        purpose = (sender, event_type)
        return new_epoch(self.identities[sender], self.federation, purpose, audience, self.now)

    def spread(self, epoch: OwnEpoch) -> None:
        """Everybody reads that epoch's grant."""
        for reader in ROLES:
            self.gate(reader).granted(epoch.grant)

    def ask(self, **changes: object) -> Ask:
        fields = {
            "query": bytes(range(16)),
            "partition": 1,
            "rule": "soft",
            "rows": 1,
            "protection": "trusted",
            "created": self.now,
            "deadline": self.now + 500,
        }
        return Ask.model_validate({**fields, **changes})

    def seal(self, kind: str, epoch: OwnEpoch | None = None, **asked: object) -> Sealed:
        """An event of that kind as its usual sender makes it, under a spread epoch of its own."""
        if epoch is None:
            epoch = self.epoch(SENDER[kind], READER[kind] if kind == "result" else None)
        payload = {"query": query_payload, "response": abstain_payload, "result": result_payload}
        replied = None if kind == "query" else reply("abstain" if kind == "response" else "result")
        return epoch.seal(self.ask(**asked), replied, payload[kind]())

    def record(self, kind: str, value: bytes, partition: int = 1, offset: int = 7) -> Record:
        return Record(Partition(TOPICS[kind], partition), offset, self.now, b"key", value)

    def hear(self, kind: str, value: bytes, reader: str | None = None) -> Verified | Refusal | None:
        """What its usual reader, or `reader`, makes of an event on the topic of that kind."""
        return self.gate(reader or READER[kind]).admit(self.record(kind, value), kind)  # type: ignore[arg-type]


def parts(value: bytes) -> tuple[Envelope, Header]:
    """The outside and the header of an event that is well formed."""
    decoded = decode_envelope(value)
    assert not isinstance(decoded, Refusal), decoded
    return decoded


def with_header(value: bytes, changes: Mapping[str, object]) -> bytes:
    """The event with other header fields, all else as it was; `ask.rows` names a nested one."""
    envelope, header = parts(value)
    fields = header.model_dump(exclude_none=True)
    for path, changed in changes.items():
        *outer, last = path.split(".")
        inside = fields
        for name in outer:
            inside = inside[name]
        inside[last] = changed
    return encode_envelope(pack(fields), envelope.nonce, envelope.sealed, envelope.tags)


def query_payload() -> bytes:
    data = bytes(16)
    tensor = Tensor(name="x", datatype=Datatype.FP32, shape=(1, 4), data=data)
    return frame(QueryPayload(inputs=(tensor,)))


def abstain_payload() -> bytes:
    return frame(Abstain(reason=1), 600)


def answer_payload(answer: Answer) -> bytes:
    return frame(answer, 600)


def result_payload() -> bytes:
    return frame(ResultPayload(outcome=Outcome.NO_QUORUM))


def reply(kind: str = "abstain", digest: bytes = b"d" * 32, client: str = "alice") -> Reply:
    return Reply.model_validate({"client": client, "digest": digest, "kind": kind, "model": "m1"})


_IDENTITIES = {name: Identity.generate(name) for name in ROLES}


def cast(
    also: Mapping[str, Role] | None = None,
    protections: tuple[Protection, ...] = (Protection.TRUSTED,),
    **limits: int,
) -> Cast:
    """Three participants, an aggregator and two clients, who know nothing of each other yet.

    `also` gives a member a second role; `protections` and `limits` are those of the policy.
    """
    also = also or {}
    members = tuple(_member(name, {role, also.get(name, role)}) for name, role in ROLES.items())
    federation = Federation(
        name="test",
        task=TASK,
        roster=Roster(version=1, members=members),
        policy=Policy(quorum=2, protections=protections, limits=Limits(**limits)),
    )
    return Cast(federation, dict(_IDENTITIES))


def _member(name: str, roles: set[Role]) -> Member:
    card = _IDENTITIES[name].card()
    return Member(
        id=name,
        signing_key=card.signing_key,
        sealing_key=card.sealing_key,
        roles=frozenset(roles),
    )
