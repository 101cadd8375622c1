"""Where events come in: an aggregator's topics, a participant's, a client's, and the keys.

Each door is what a role does first with a record of that topic. Nothing that is not genuine may
get through one without being counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.in_process import Sink
from fi_stream.events.payloads import QueryPayload, ResultPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.rows import decode_rows
from fi_stream.roles.dead_letters import DeadLetters
from fi_stream.roles.joining import Joining
from fi_stream.roles.tally import Tally
from fi_stream.sealing.published import read_roster
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.in_process import InProcess
    from fi_stream.transport.port import Appended, Outgoing, Record

ASKED: Final = ("queries", "participant")
"""The doors where queries come in: an aggregator's and a participant's."""

DOORS: Final = (*ASKED, "responses", "results", "client", "keys")


class Shelf(Sink):
    """Where dead letters go: how many there are, and how large the largest is."""

    def __init__(self) -> None:
        self.letters = 0
        self.largest = 0

    async def publish(self, events: Sequence[Outgoing]) -> list[Appended]:
        """Look at them and forget them."""
        self.letters += len(events)
        self.largest = max(self.largest, *(len(event.value) for event in events))
        return []


class Doors:
    """The doors of three roles, with one tally."""

    def __init__(self, members: InProcess, shelf: Shelf) -> None:
        self._members = members
        seat = members.seat("aggregator", shelf)
        self.dead = DeadLetters(seat)
        self.tally = Tally("doors", self.dead)
        self._keys = members.keys(seat, self.tally)
        self._gates = (self._keys.gate, members.gates["p1"], members.gates["client"])
        self._joining = Joining(seat, self._keys.gate, self.tally)
        self._joining.begin({0: 0})
        self._records = 0
        topics = catalogue()
        names = [t.name for t in (topics.queries, topics.responses, topics.results, topics.keys)]
        queries, responses, results, keys = names
        self._topics = dict(
            zip(DOORS, (queries, queries, responses, results, results, keys), strict=True)
        )

    @property
    def waiting(self) -> int:
        """Events that wait for their grant."""
        return sum(gate.waiting for gate in self._gates)

    @property
    def accounted(self) -> int:
        """Events that were refused, by whatever reason, or wait."""
        return sum(self.tally.counts().values()) + self.waiting

    def record(self, door: str, value: bytes) -> Record:
        """An event as the broker would hand it over there."""
        self._records += 1
        return self._members.record(self._topics[door], b"key", value, self._records)

    def take(self, door: str, record: Record) -> None:
        """What the role behind that door does first with an event."""
        match door:
            case "participant":
                self._asked(record)
            case "client":
                self._told(record)
            case "keys":
                self.granted(record)
            case _:
                self._joining.take([record])

    def granted(self, record: Record) -> list[Record]:
        """The aggregator hears of a grant or a roster; what had waited for it."""
        released, refusal = self._keys.gate.granted(record.value)
        if refusal is not None and refusal.reason is Reason.MALFORMED:
            roster = read_roster(record.value, self._members.federation)
            refusal = roster if isinstance(roster, Refusal) else None
        if refusal is not None:
            self.tally.refused(refusal, record)
        return released

    def _asked(self, record: Record) -> None:
        event = self._members.gates["p1"].admit(record, "query")
        if event is None:
            return
        payload = event if isinstance(event, Refusal) else event.open(QueryPayload)
        if not isinstance(payload, Refusal):
            rows = decode_rows(payload.inputs, 1, self._members.federation.task)
            if not isinstance(rows, Refusal):
                return
            payload = rows
        self.tally.refused(payload, record)

    def _told(self, record: Record) -> None:
        event = self._members.gates["client"].admit(record, "result")
        if event is None:
            return
        payload = event if isinstance(event, Refusal) else event.open(ResultPayload)
        if isinstance(payload, Refusal):
            self.tally.refused(payload, record)
