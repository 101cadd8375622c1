"""An aggregator's joins without a broker, and members that send them what a test likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from members import cast, query_payload

from fi_stream.aggregation.results import result_payloads
from fi_stream.clock import BrokerClock
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Abstain, Answer, ResultPayload, frame, response_length
from fi_stream.events.query_id import new_query_id
from fi_stream.events.tensors import Tensor, to_array, to_tensor
from fi_stream.federation.member import MemberSettings
from fi_stream.federation.policy import Form, Protection
from fi_stream.federation.roster import Role
from fi_stream.roles.joining import Joining
from fi_stream.roles.keys import Keys
from fi_stream.roles.reading import ResultReader
from fi_stream.roles.seat import Seat
from fi_stream.roles.tally import Tally
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.identity import Identities
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.aggregation.facts import Settled
    from fi_stream.aggregation.join import Join
    from fi_stream.events.header import Ask
    from fi_stream.events.refusals import Reason, Refusal
    from fi_stream.roles.result import Result

NUMBER = 1
SURE = np.array([[0.9, 0.05, 0.05]])
OTHER = np.array([[0.05, 0.9, 0.05]])
UNSURE = np.array([[0.4, 0.3, 0.3]])
KAFKA = {"bootstrap.servers": "nobody.example:9092"}


class Desk:
    """An aggregator's joins over one partition, and members that send it what a test likes.

    The broker's clock goes on evenly, whatever is done to this machine's.
    """

    def __init__(self, **policy: object) -> None:
        self.members = cast()
        federation = self.members.federation
        changed = federation.policy.model_copy(update=policy)
        self.members.federation = federation.model_copy(update={"policy": changed})
        self.time = self.members.time
        self._began = (self.time.wall(), self.time.monotonic())
        self.epochs = {name: self.members.epoch(name) for name in ("alice", "p1", "p2", "p3")}
        self.epochs["agg"] = self.members.epoch("agg", "alice")
        if Protection.BLIND in changed.protections:
            self.blind = {name: self.members.epoch(name, "alice") for name in ("p1", "p2", "p3")}
        self.tally = Tally("aggregator")
        self.offsets = dict.fromkeys(("fi.queries", "fi.responses", "fi.results"), 0)
        self.joining = self.another()

    def another(self) -> Joining:
        """A process that takes over with nothing known."""
        seat = self.seat("agg", Role.AGGREGATOR)
        made = Joining(seat, self.members.gate("agg"), self.tally)
        made.begin({NUMBER: 0})
        made.catching_up = False
        return made

    def seat(self, member: str, role: Role) -> Seat:
        """A member's place, without a broker."""
        settings = MemberSettings.model_validate(
            {"member": {"id": member, "federation": "f.toml", "keys": "keys"}, "kafka": KAFKA}
        )
        return Seat(
            settings,
            self.members.federation,
            self.members.rosters,
            Identities(self.members.identities[member]),
            BrokerClock(self.time, Millis(2000)),
            KafkaTransport(Connection.of(KAFKA), self.time),
            role,
        )

    @property
    def now(self) -> BrokerMillis:
        """The broker's time."""
        wall, mono = self._began
        return BrokerMillis(wall + round((self.time.monotonic() - mono) * 1000))

    @property
    def join(self) -> Join:
        return self.joining.joins[NUMBER]

    def query(self, deadline: int = 500, **changes: object) -> Query:
        created = self.now
        fields = {"query": new_query_id(created), "created": created}
        ask = self.members.ask(**{**fields, "deadline": created + deadline, **changes})
        sealed = self.epochs["alice"].seal(ask, None, query_payload())
        return Query(self, ask, sealed.digest, self.record("fi.queries", ask.query, sealed.value))

    def record(self, topic: str, query: bytes, value: bytes) -> Record:
        """A record of that key, appended now."""
        self.offsets[topic] += 1
        at = self.now
        return Record(Partition(topic, NUMBER), self.offsets[topic], at, query, value)

    def take(self, *records: Record) -> list[Settled]:
        """One poll."""
        return self.joining.take(list(records))

    def decide(self, *records: Record) -> list[Settled]:
        """One poll, a hop, and another poll: what is certain by then is decided."""
        settled = self.take(*records)
        self.time.advance(self.members.federation.policy.limits.hop_ms)
        return settled + self.take()

    def due(self) -> list[Settled]:
        return self.join.due(self.time.monotonic())


class Query:
    """A query, and what may be said to it."""

    def __init__(self, desk: Desk, ask: Ask, digest: bytes, record: Record) -> None:
        self._desk = desk
        self.ask = ask
        self.digest = digest
        self.record = record

    def says(
        self, member: str, prediction: np.ndarray, scale: int | None = None, **asked: object
    ) -> Record:
        """A member's answer, appended now; with a scale, as noised integers.

        Its header repeats the query but for what is `asked` otherwise.
        """
        form = self._desk.members.federation.policy.form
        values = prediction if scale is None else np.rint(prediction * scale).astype(np.int64)
        if form is Form.LABEL:
            values = prediction.argmax(axis=1)
        return self.answers(member, form, values, scale, **asked)

    def answers(
        self, member: str, form: Form, values: np.ndarray, scale: int | None, **asked: object
    ) -> Record:
        """The same, of values as they travel."""
        tensor = to_tensor(form.value, values)
        assert isinstance(tensor, Tensor)
        said = Answer(form=form.value, outputs=(tensor,), scale=scale)
        payload = frame(said, response_length(len(values), 3))
        return self._sealed(member, "answer", payload, **asked)

    def abstains(
        self, member: str, reason: Reason, retry_ms: int | None = None, size: int = 0
    ) -> Record:
        """A member's abstain, appended now; its payload has `size` bytes, if that is more."""
        payload = frame(
            Abstain(reason=reason.code, retry_ms=retry_ms),
            size or response_length(self.ask.rows, 3),
        )
        return self._sealed(member, "abstain", payload)

    def result(self, settled: Settled, **changes: object) -> Record:
        """The result that an aggregator makes of it, appended now; but for the changes."""
        (payload,) = result_payloads([settled])
        return self._sealed("agg", "result", frame(payload.model_copy(update=changes)))

    def _sealed(self, member: str, kind: str, payload: bytes, **asked: object) -> Record:
        fields = {"client": "alice", "digest": self.digest, "kind": kind}
        reply, ask = Reply.model_validate(fields), self.ask.model_copy(update=asked)
        blind = self.ask.protection == Protection.BLIND and kind != "result"
        epochs = self._desk.blind if blind else self._desk.epochs
        sealed = epochs[member].seal(ask, reply, payload)
        topic = "fi.results" if kind == "result" else "fi.responses"
        return self._desk.record(topic, self.ask.query, sealed.value)


def payload(settled: Settled) -> ResultPayload:
    (made,) = result_payloads([settled])
    return made


def label(settled: Settled) -> int:
    array = to_array(payload(settled).outputs[0])
    assert isinstance(array, np.ndarray)
    return int(array[0])


class Asker:
    """What alice makes of results; it has the grants that were made before it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        seat = desk.seat("alice", Role.CLIENT)
        self.tally = Tally("client")
        self.keys = Keys(seat, self.tally)
        self._reader = ResultReader(seat.federation, self.keys.gate, self.tally)
        self.hears("agg")

    def hears(self, *members: str) -> None:
        """The grants of these, of aggregators for results, of participants for blind answers."""
        for member in members:
            epochs = self._desk.epochs if member == "agg" else self._desk.blind
            _, refusal = self.keys.gate.granted(epochs[member].grant)
            assert refusal is None

    def reads(
        self, query: Query, record: Record, *, waits: bool = False
    ) -> Result | Refusal | None:
        """The result that a record is."""
        event = self.keys.gate.admit(record, "result")
        assert isinstance(event, Verified), event
        assert event.header.reply is not None
        return self._reader.read(event, event.header.reply, query.ask, 1.0, waits=waits)
