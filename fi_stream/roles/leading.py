"""The aggregator as the leader of secure sums: proposes sets of answers, and hears the helper.

What it decides is `secagg.proposal`'s; here events are read and made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.results import contributors_of, missing_of
from fi_stream.events.header import Reply
from fi_stream.events.payloads import frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import Chosen, HalfPayload, ProposalPayload, RefusalPayload
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.policy import Protection
from fi_stream.privacy.mechanisms import GRID
from fi_stream.roles.labels import tool_labels
from fi_stream.roles.own_epochs import Need
from fi_stream.secagg.proposal import Proposals, Propose
from fi_stream.secagg.sets import set_digest
from fi_stream.secagg.shares import added
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Outgoing, Partition
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Asked, Key, Marks, Settled
    from fi_stream.roles.keys import Keys
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Record
    from fi_stream.values import Instant

    Kind = Literal["proposal", "half"]


class Leading:
    """The queries under `secagg` of the partitions that this process owns."""

    def __init__(self, seat: Seat, keys: Keys, tally: Tally) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._proposals: dict[int, Proposals] = {}
        self._began = BrokerMillis(0)
        self.proposed = 0
        """Sets that were proposed."""

    @property
    def open(self) -> int:
        """Queries of which a set is proposed, and no result was read."""
        return sum(map(len, self._proposals.values()))

    def begin(self, partitions: Iterable[int]) -> None:
        """Own these partitions from now on; what was proposed before is joined again."""
        least = self._seat.federation.least_answers
        self._proposals = {number: Proposals(least) for number in partitions}
        self._began = self._seat.clock.now()

    def sort(self, settled: Iterable[Settled]) -> tuple[list[Settled], list[Propose]]:
        """Of the queries whose answers are joined: those to be told, and sets to be proposed."""
        clock = self._seat.clock
        told: list[Settled] = []
        proposed: list[Propose] = []
        for one in settled:
            ask = one.asked.ask
            proposals = self._proposals.get(ask.partition)
            if ask.protection != Protection.SECAGG or proposals is None:
                told.append(one)
                continue
            until = clock.local_time_of(BrokerMillis(ask.deadline))
            found = proposals.settled(one, until, clock.monotonic())
            if isinstance(found, Propose):
                proposed.append(found)
            else:
                told.append(found)
        return told, proposed

    def take(self, records: Iterable[Record]) -> tuple[list[Settled], list[Propose]]:
        """What the helper's refusals among these records call for."""
        told: list[Settled] = []
        proposed: list[Propose] = []
        topic = catalogue().proposals.name
        for record in records:
            if record.source.topic != topic:
                continue
            event = self._keys.gate.admit(record, "proposal")
            found = event if event is None or isinstance(event, Refusal) else self._refused(event)
            if isinstance(found, Refusal):
                if record.at >= self._began or found.reason.poison:
                    self._tally.refused(found, record)  # what is read again is no news
            elif isinstance(found, Propose):
                proposed.append(found)
            elif found is not None:
                told.append(found)
        return told, proposed

    def result(self, partition: int, key: Key) -> None:
        """A result was read."""
        if partition in self._proposals:
            self._proposals[partition].result(key)

    def due(self, now: Instant, most: int) -> list[Settled]:
        """The queries of which no result was read by their deadline."""
        return [one for each in self._proposals.values() for one in each.due(now, most)]

    def next_due(self) -> Instant | None:
        """When the next of them is due."""
        due = (each.next_due() for each in self._proposals.values())
        return min((when for when in due if when is not None), default=None)

    def marks(self, partition: int) -> Marks:
        """From where whoever comes after us must read this partition again."""
        return self._proposals[partition].marks()

    def events(self, proposed: Iterable[Propose]) -> list[Outgoing]:
        """The events that propose these sets to the helper."""
        events = [self._event(one) for one in proposed]
        self.proposed += len(events)
        return events

    def _refused(self, event: Verified) -> Propose | Settled | Refusal | None:
        reply, ask = event.header.reply, event.header.ask
        proposals = self._proposals.get(ask.partition)
        if reply is None or reply.kind != "refusal" or proposals is None:
            return None  # a proposal: a leader's, for the helper
        payload = event.open(RefusalPayload)
        if isinstance(payload, Refusal):
            return payload
        bad = {
            one.member: Reason.from_code(one.reason or 0) or Reason.BAD_SHARE for one in payload.bad
        }
        reason = Reason.from_code(payload.reason) or Reason.BAD_SHARE
        return proposals.refused((reply.client, ask.query), payload.members, bad, reason)

    def _event(self, one: Propose) -> Outgoing:
        asked, answers = one.settled.asked, one.settled.answers
        digest = set_digest(one.members)
        shares = [given.half.values for given in answers.values() if given.half is not None]
        half = HalfPayload(
            outcome=one.settled.outcome,
            members=digest,
            total=sum_tensor(added(shares)),
            scale=GRID,
            contributors=contributors_of(one.settled),
            missing=missing_of(one.settled),
        )
        proposal = ProposalPayload(
            members=tuple(Chosen(member=m, share=share) for m, share in one.members),
            read=1 + max(given.answered.offset for given in answers.values()),
            half=self._sealed(asked, "half", frame(half)),
        )
        value = self._sealed(asked, "proposal", frame(proposal))
        target = Partition(catalogue().proposals.name, asked.ask.partition)
        labels = tool_labels("proposal", self._seat.federation.task.hash, asked.ask)
        return Outgoing(target, asked.ask.query, value, labels)

    def _sealed(self, asked: Asked, kind: Kind, payload: bytes) -> bytes:
        reply = Reply(client=asked.client, digest=asked.digest, kind=kind)
        need = Need(asked.roster, asked.ask.protection, asked.client, kind)
        return self._keys.own.find(need).seal(asked.ask, reply, payload).value


def sum_tensor(total: NDArray[np.uint64]) -> Tensor:
    """One half of a sum as it travels: UINT64 [rows, columns]."""
    data = total.astype("<u8").tobytes()
    return Tensor(name="sum", datatype=Datatype.UINT64, shape=total.shape, data=data)
