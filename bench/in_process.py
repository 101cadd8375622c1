"""A federation in one process, its keys exchanged, at a broker that is only a function call.

So what is measured is the library's work alone, and as many events as wanted cost no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import job
from bench.federated import Variant, federation_of
from fi_stream.clock import BrokerClock, SystemClock
from fi_stream.events.header import Ask
from fi_stream.federation.member import MemberSettings
from fi_stream.federation.roster import Role
from fi_stream.federation.rosters import Rosters
from fi_stream.roles.keys import Keys
from fi_stream.roles.seat import Seat
from fi_stream.sealing.audiences import audiences
from fi_stream.sealing.epochs import new_epoch
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.transport.port import Appended, Assigned, Group, Outgoing, Reader, Transport

LONGEST_MS = 120_000
"""The longest deadline: very many queries may be opened before the first of them is due."""


class InProcess:
    """A client, three participants and an aggregator."""

    def __init__(self) -> None:
        self.roles = {f"p{number}": Role.PARTICIPANT for number in job.participants()}
        self.roles |= {"aggregator": Role.AGGREGATOR, "client": Role.CLIENT}
        self._identities = {name: Identity.generate(name) for name in self.roles}
        usual = federation_of(self._identities, self.roles, Variant())
        limits = usual.policy.limits.model_copy(update={"max_deadline_ms": LONGEST_MS})
        policy = usual.policy.model_copy(update={"limits": limits})
        self.federation = usual.model_copy(update={"policy": policy})
        self.clock = BrokerClock(SystemClock(), Millis(2_000))
        rosters = Rosters(self.federation)
        self.gates = {
            name: Gate(rosters, Keyring(rosters, name, Identities(identity)), self.clock)
            for name, identity in self._identities.items()
        }
        self.epochs: dict[str, OwnEpoch] = {}
        for name in self.roles:
            for epoch in self.new_epochs(name):
                self.epochs[name] = epoch
                for gate in self.gates.values():
                    gate.granted(epoch.grant)

    def new_epochs(self, name: str) -> list[OwnEpoch]:
        """Epochs of a member that nobody has the grants of."""
        now, identity = self.clock.now(), self._identities[name]
        return [
            new_epoch(identity, self.federation, (name, event_type), audience, now)
            for event_type, audience in audiences(self.federation, self.roles[name])
        ]

    def ask(self, query: bytes, deadline: int) -> Ask:
        """What a client says in the clear of one row that it asks now."""
        return Ask(
            query=query,
            partition=0,
            rule=self.federation.default_rule,
            rows=1,
            protection=self.federation.default_protection.value,
            created=self.clock.now(),
            deadline=BrokerMillis(deadline),
        )

    def record(self, topic: str, key: bytes, value: bytes, offset: int = 0) -> Record:
        """An event as the broker would hand it over."""
        return Record(Partition(topic, 0), offset, self.clock.now(), key, value)

    def seat(self, name: str, transport: Transport) -> Seat:
        """That member's, for a role that runs here."""
        own = {"id": name, "federation": "federation.toml", "keys": "keys"}
        settings = MemberSettings.model_validate({"member": own, "kafka": {}}, strict=False)
        return Seat(
            settings,
            self.federation,
            Rosters(self.federation),
            Identities(self._identities[name]),
            self.clock,
            transport,
            self.roles[name],
        )

    def keys(self, seat: Seat, tally: Tally) -> Keys:
        """A role's keys, with everybody's grants read."""
        keys = Keys(seat, tally)
        for epoch in self.epochs.values():
            keys.gate.granted(epoch.grant)
        keys.caught_up.set()
        return keys


class Sink:
    """A broker that takes everything, and has nothing to read."""

    reachable = True
    troubles: tuple[str, ...] = ()
    skipped = 0
    jumped = 0
    moved = 0

    async def publish(self, _events: Sequence[Outgoing]) -> list[Appended]:
        """Nobody looks at it."""
        return []

    async def partition_count(self, _topic: str) -> int:
        """One of each."""
        return 1

    def reader(self, what: Assigned | Group) -> AbstractAsyncContextManager[Reader]:
        """There is none."""
        raise NotImplementedError(f"a sink has nothing to read: {what}")
