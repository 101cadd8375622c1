"""A federation in memory: identities, the public value, and each member's keyring and gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import Abstain, Outcome, QueryPayload, ResultPayload, frame
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.federation import Federation
from fi_stream.federation.policy import Limits, Policy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.sealing.epochs import OwnEpoch, audiences, new_epoch
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.identity import Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.port import Partition, Record
from fi_stream.values import Millis

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


@dataclass
class Cast:
    """Members with their keys, at one moment of a manual clock."""

    federation: Federation
    identities: dict[str, Identity]
    time: ManualClock = field(default_factory=ManualClock)
    gates: dict[str, Gate] = field(default_factory=dict)
    epochs: dict[str, OwnEpoch] = field(default_factory=dict)

    @property
    def now(self) -> int:
        return self.time.wall()

    def gate(self, member: str) -> Gate:
        """A gate of that member that has accepted every grant made so far."""
        if member not in self.gates:
            limits = self.federation.policy.limits
            keyring = Keyring(self.federation, member, self.identities[member])
            clock = BrokerClock(self.time, Millis(limits.max_skew_ms))
            self.gates[member] = Gate(self.federation, keyring, clock)
        return self.gates[member]

    def epoch(self, member: str, opener: str | None = None, *, spread: bool = True) -> OwnEpoch:
        """A new epoch of that member, granted to everybody else's gate if `spread`."""
        for event_type, audience in audiences(self.federation, ROLES[member]):
            if opener in (None, *audience.openers):
                made = new_epoch(
                    self.identities[member],
                    self.federation,
                    (member, event_type),
                    audience,
                    self.now,
                )
                break
        if spread:
            for reader in ROLES:
                self.gate(reader).granted(made.grant)
        self.epochs[member] = made
        return made

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
        return Ask(**{**fields, **changes})

    def record(self, kind: str, value: bytes, partition: int = 1, offset: int = 7) -> Record:
        return Record(Partition(TOPICS[kind], partition), offset, self.now, b"key", value)


def query_payload() -> bytes:
    data = bytes(16)
    tensor = Tensor(name="x", datatype=Datatype.FP32, shape=(1, 4), data=data)
    return frame(QueryPayload(inputs=(tensor,)))


def abstain_payload() -> bytes:
    return frame(Abstain(reason=1), 600)


def result_payload() -> bytes:
    return frame(ResultPayload(outcome=Outcome.NO_QUORUM))


def reply(kind: str = "abstain", digest: bytes = b"d" * 32, client: str = "alice") -> Reply:
    return Reply(client=client, digest=digest, kind=kind, model="m1")


_IDENTITIES = {name: Identity.generate(name) for name in ROLES}


def cast(**limits: int) -> Cast:
    """Three participants, an aggregator and two clients, who know nothing of each other yet."""
    members = tuple(_member(name, role) for name, role in ROLES.items())
    federation = Federation(
        name="test",
        task=TASK,
        roster=Roster(version=1, members=members),
        policy=Policy(quorum=2, limits=Limits(**limits)),
    )
    return Cast(federation, dict(_IDENTITIES))


def _member(name: str, role: Role) -> Member:
    card = _IDENTITIES[name].card()
    return Member.model_construct(
        id=name,
        signing_key=card.signing_key,
        sealing_key=card.sealing_key,
        roles=frozenset({role}),
    )
