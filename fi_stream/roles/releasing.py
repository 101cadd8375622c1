"""What the helper does with each record, and the events that tell what it decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.header import Reply
from fi_stream.events.payloads import Missing, frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import ProposalPayload, RefusalPayload, ReleasePayload
from fi_stream.federation.policy import Protection
from fi_stream.roles.labels import tool_labels
from fi_stream.roles.leading import sum_tensor
from fi_stream.roles.own_epochs import Need
from fi_stream.sealing.seeds import open_seed
from fi_stream.secagg.release import Held, Proposed, Ready, Refused, Releases
from fi_stream.secagg.sets import Identity
from fi_stream.secagg.store import Entry, Recorded
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Outgoing, Partition
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from fi_stream.events.header import ReplyKind
    from fi_stream.roles.keys import Keys
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Record

_PAST = frozenset({Reason.LATE, Reason.DUPLICATE, Reason.UNKNOWN_EPOCH, Reason.EXPIRED_EPOCH})
"""What copies and old events are refused for: no news while what is there already is read again."""

_TOLD = {Recorded.ANOTHER: Reason.SECOND_SET, Recorded.FORGOTTEN: Reason.LATE}


class Releasing:
    """The shares and proposals of the partitions that this process owns."""

    def __init__(self, seat: Seat, keys: Keys, tally: Tally) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._releases: dict[int, Releases] = {}
        self._began = BrokerMillis(0)
        self._told: dict[tuple[int, int], int] = {}

    @property
    def partitions(self) -> int:
        """How many are owned."""
        return len(self._releases)

    @property
    def shares(self) -> int:
        """Shares that are held."""
        return sum(each.shares for each in self._releases.values())

    @property
    def open(self) -> int:
        """Proposals that wait for their shares."""
        return sum(each.open for each in self._releases.values())

    def begin(self, partitions: Iterable[int]) -> None:
        """Own these partitions from now on; what was known of any is read again."""
        policy = self._seat.federation.policy.secagg
        least = self._seat.federation.least_answers if policy is None else policy.k_min
        self._releases = {number: Releases(least) for number in partitions}
        self._began = self._seat.clock.now()

    def take(self, records: Iterable[Record]) -> list[Refused]:
        """Keep shares and proposals; the proposals that are refused at once."""
        refused: list[Refused] = []
        topics = catalogue()
        for record in records:
            releases = self._releases.get(record.source.number)
            if releases is None:
                continue
            found: Refused | Refusal | None
            if record.source.topic == topics.responses.name:
                event = self._keys.gate.admit(record, "response", Protection.SECAGG)
                found = event if isinstance(event, Refusal) else self._share(releases, event)
            else:
                event = self._keys.gate.admit(record, "proposal")
                found = event if isinstance(event, Refusal) else self._proposal(releases, event)
            if isinstance(found, Refused):
                refused.append(found)
            elif found is not None:
                self._tell(found, record)
        for record, refusal in self._keys.gate.expired(self._seat.clock.monotonic()):
            self._tell(refusal, record)
        return refused

    def decide(self, at: Mapping[Partition, int]) -> list[Ready | Refused]:
        """What can be decided, when so much is read."""
        now = self._seat.clock.monotonic()
        decided: list[Ready | Refused] = []
        for number, releases in self._releases.items():
            if releases.open:
                source = Partition(catalogue().responses.name, number)
                waiting = self._keys.gate.oldest_waiting(source)
                read = at.get(source, 0)
                decided += releases.decide(read if waiting is None else min(read, waiting), now)
        return decided

    def sort(
        self, decided: Iterable[Ready | Refused], before: Iterable[Ready]
    ) -> tuple[list[Ready], list[Refused]]:
        """Sets to release, with those from `before` that could not be recorded, and refusals.

        Nothing is released, or said, past the deadline: the leader has told an outcome then.
        """
        now = self._seat.clock.now()
        ready, refused = list(before), []
        for one in decided:
            if isinstance(one, Ready):
                ready.append(one)
            elif one.proposed.ask.deadline >= now:
                refused.append(one)
        return [one for one in ready if one.proposed.ask.deadline >= now], refused

    def entry(self, one: Ready) -> Entry:
        """What the store is to remember of a set."""
        proposed = one.proposed
        deadline = BrokerMillis(proposed.ask.deadline)
        return Entry(proposed.identity.name, proposed.digest, deadline)

    def events(
        self, recorded: Iterable[tuple[Ready, Recorded]], refused: Iterable[Refused]
    ) -> list[tuple[int, Outgoing]]:
        """What is told of sets that are on record and of those refused; each with its deadline."""
        told = []
        denied = list(refused)
        for one, verdict in recorded:
            if verdict.may_leave:
                told.append((one.proposed.ask.deadline, self._result(one)))
            else:
                denied.append(Refused(one.proposed, _TOLD[verdict]))
        told += [(one.proposed.ask.deadline, self._refusal(one)) for one in denied]
        return told

    def told(self, decided: Iterable[Ready | Refused]) -> None:
        """What was decided is on the topics: these proposals are not looked at again.

        The same set proposed once more is another proposal, and gets the same sum again.
        """
        for one in decided:
            self._told[one.proposed.found] = one.proposed.ask.deadline

    def forget(self, now: Instant) -> None:
        """Let go of what is over."""
        for releases in self._releases.values():
            releases.forget(now)

    def forget_told(self) -> None:
        """The same for proposals that are past their deadline: they are refused by themselves."""
        past = self._seat.clock.now() - self._seat.federation.policy.limits.max_skew_ms
        self._told = {found: until for found, until in self._told.items() if until > past}

    def _share(self, releases: Releases, event: Verified | None) -> Refusal | None:
        if event is None or (reply := event.header.reply) is None or reply.kind != "answer":
            return None
        ask, member, clock = event.header.ask, event.header.sender, self._seat.clock
        if event.record.at > ask.deadline:
            return Refusal(Reason.LATE, f"{member}: {event.record.at - ask.deadline} ms late")
        if clock.now() > ask.deadline:
            return None  # read again, or too late: nothing of it is released any more
        if reply.share is None:
            return Refusal(Reason.BAD_SHARE, f"an answer of {member} without a share")
        content = self._keys.gate.part_key(event, reply.share.epoch, "share")
        if content is None or isinstance(content, Refusal):
            return content
        seed = open_seed(content, event.header, reply.share)
        if isinstance(seed, Refusal):
            return seed
        identity = Identity(reply.client, ask.query, reply.digest)
        skew = self._seat.federation.policy.limits.max_skew_ms
        ends = clock.local_time_of(BrokerMillis(ask.deadline + skew))
        return releases.share(identity, member, reply.share.id, Held(ask.kept(), seed), ends)

    def _proposal(self, releases: Releases, event: Verified | None) -> Refused | Refusal | None:
        if event is None or (reply := event.header.reply) is None or reply.kind != "proposal":
            return None  # a refusal: ours, for the leader
        header, ask = event.header, event.header.ask
        if event.record.at > ask.deadline:
            return Refusal(Reason.LATE, f"proposed {event.record.at - ask.deadline} ms late")
        found = (event.record.source.number, event.record.offset)
        if self._seat.clock.now() > ask.deadline or found in self._told:
            return None
        payload = event.open(ProposalPayload)
        if isinstance(payload, Refusal):
            return payload
        hop = self._seat.federation.policy.limits.hop_ms
        return releases.propose(
            Proposed(
                identity=Identity(reply.client, ask.query, reply.digest),
                ask=ask.kept(),
                roster=header.roster,
                leader=header.sender,
                members=tuple((one.member, one.share) for one in payload.members),
                half=payload.half,
                read=payload.read,
                until=self._seat.clock.local_time_of(BrokerMillis(ask.deadline - hop)),
                found=found,
            )
        )

    def _result(self, one: Ready) -> Outgoing:
        columns = len(self._seat.federation.task.classes) + 1
        payload = ReleasePayload(
            members=one.proposed.digest,
            total=sum_tensor(one.total(columns)),
            half=one.proposed.half,
        )
        return self._sealed(one.proposed, "result", frame(payload))

    def _refusal(self, one: Refused) -> Outgoing:
        payload = RefusalPayload(
            members=one.proposed.digest,
            reason=one.reason.code,
            bad=tuple(Missing(member=member, reason=reason.code) for member, reason in one.bad),
        )
        return self._sealed(one.proposed, "refusal", frame(payload))

    def _sealed(self, proposed: Proposed, kind: ReplyKind, payload: bytes) -> Outgoing:
        client, query, digest = proposed.identity
        topics, is_result = catalogue(), kind == "result"
        purpose: Literal["result", "proposal"] = "result" if is_result else "proposal"
        need = Need(proposed.roster, Protection.SECAGG, client, purpose)
        reply = Reply(client=client, digest=digest, kind=kind)
        sealed = self._keys.own.find(need).seal(proposed.ask, reply, payload)
        topic = (topics.results if is_result else topics.proposals).name
        labels = tool_labels(purpose, self._seat.federation.task.hash, proposed.ask)
        return Outgoing(Partition(topic, proposed.ask.partition), query, sealed.value, labels)

    def _tell(self, refusal: Refusal, record: Record) -> None:
        """Count what is refused; of what was there before we began, only what is news."""
        if record.at >= self._began or refusal.reason not in _PAST:
            self._tally.refused(refusal, record)
