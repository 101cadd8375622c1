"""The way in: every event is checked here before anything is decided from it (DESIGN 7).

Order: bounded decoding; topic, partition and task; roster and role; the epoch's grant; our tag.
Duplicates are the caller's to find, between `admit` and `open`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fi_stream.events.envelope import TAG_BYTES, Envelope, decode_envelope, event_digest
from fi_stream.events.header import Header
from fi_stream.events.payloads import unframe
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.sealing.audiences import senders_of
from fi_stream.sealing.waiting import WaitingRoom
from fi_stream.values import Instant

if TYPE_CHECKING:
    from typing import TypeVar

    from fi_stream.clock import BrokerClock
    from fi_stream.events.header import EventType, Purpose
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.rosters import Rosters
    from fi_stream.sealing.keyring import Keyring, ReadingEpoch
    from fi_stream.sealing.keys import ContentKey
    from fi_stream.transport.port import Partition, Record
    from fi_stream.values import MemberId, Value

    T = TypeVar("T", bound=Value)


@dataclass(frozen=True, slots=True)
class Verified:
    """An event whose sender is proven; its payload is still sealed."""

    record: Record
    header: Header
    digest: bytes
    envelope: Envelope
    epoch: ReadingEpoch
    federation: Federation
    """As of the roster under which the event was sealed."""

    def open(self, kind: type[T]) -> T | Refusal:
        """Decrypt and read the payload."""
        if self.epoch.content is None:
            return Refusal(Reason.DECRYPTION_FAILED, "we may check this event, not read it")
        envelope = self.envelope
        payload = self.epoch.content.open(envelope.header, envelope.nonce, envelope.sealed)
        if payload is None:
            return Refusal(Reason.DECRYPTION_FAILED, f"a {self.header.type}")
        return unframe(payload, kind)


class Gate:
    """Admits events of the federation's members; those whose grant is missing wait for it."""

    def __init__(self, rosters: Rosters, keyring: Keyring, clock: BrokerClock) -> None:
        self._rosters = rosters
        self._limits = rosters.base.policy.limits
        self._keyring = keyring
        self._clock = clock
        self._waiting = WaitingRoom()
        self.grants = 0
        """How many grants for us were taken in: what could not be read before, may be now."""

    @property
    def waiting(self) -> int:
        """Events that wait for a grant."""
        return len(self._waiting)

    def oldest_waiting(self, source: Partition) -> int | None:
        """The lowest offset of this partition that waits for a grant."""
        return self._waiting.oldest(source)

    def admit(
        self, record: Record, expected: EventType, only: str | None = None
    ) -> Verified | Refusal | None:
        """Check one event; None when it waits for its grant.

        With `only`, None also for events of another protection: they may be for other readers.
        """
        event = self._checked(record, expected, only)
        if not isinstance(event, Header):
            return event
        if only is not None and event.ask.protection != only:
            return None
        return self._wait(record, event, event.sender, event.epoch)

    def within(self, outer: Verified, value: bytes, expected: EventType) -> Verified | Refusal:
        """Check an event that somebody passes on inside another, about the same query.

        It shall not wait: without its grant it is `unknown_epoch`.
        """
        event = self._checked(replace(outer.record, value=value), expected)
        if isinstance(event, Refusal):
            return event
        header = event if isinstance(event, Header) else event.header
        if not _same_query(header, outer.header):
            return Refusal(Reason.WRONG_QUERY, f"a {expected} of {header.sender} within another's")
        return _no_grant(event) if isinstance(event, Header) else event

    def part_key(
        self, event: Verified, epoch: bytes, purpose: Purpose
    ) -> ContentKey | Refusal | None:
        """The key to something in an event that its sender sealed under another of its epochs.

        Returns:
            None when the event waits for that epoch's grant, and is to be admitted again.
        """
        header = event.header
        found = self._keyring.find(header.sender, epoch)
        if found is None:
            return self._wait(event.record, header, header.sender, epoch)
        if found.epoch.purpose != purpose or found.epoch.roster != header.roster:
            return Refusal(Reason.WRONG_EPOCH, f"an epoch for {found.epoch.purpose}")
        if event.record.at > found.epoch.expires:
            return Refusal(Reason.EXPIRED_EPOCH, f"of {header.sender}")
        if found.content is None:
            return Refusal(Reason.DECRYPTION_FAILED, f"a {purpose} that we may not read")
        return found.content

    def admit_known(self, record: Record, expected: EventType) -> Verified | Refusal:
        """Check one event that shall not wait: without its grant it is `unknown_epoch`."""
        event = self._checked(record, expected)
        return _no_grant(event) if isinstance(event, Header) else event

    def _checked(
        self, record: Record, expected: EventType, only: str | None = None
    ) -> Verified | Refusal | Header:
        """The event, verified; its header alone when all is well but its grant has not come.

        The header alone, too, when it is not of the one protection that is wanted.
        """
        if len(record.value) > self._limits.max_message_bytes:
            return Refusal(Reason.TOO_LARGE, f"{len(record.value)} bytes")
        decoded = decode_envelope(record.value)
        if isinstance(decoded, Refusal):
            return decoded
        envelope, header = decoded
        refusal = self._misplaced(header, record, expected)
        if refusal is not None:
            return refusal
        if only is not None and header.ask.protection != only:
            return header
        federation = self._rosters.of(header.roster)
        if federation is None:
            # Its roster comes ahead of its grant: who waits for the one waits for the other.
            if header.roster > self._rosters.newest:
                return header
            return Refusal(Reason.UNKNOWN_ROSTER, f"version {header.roster}")
        refusal = self._rosters.refuse(header.roster, header.sender, expected, record.at)
        if refusal is not None:
            return refusal
        roles = self._rosters.roles(header.roster, header.sender) or ()
        if senders_of(header).isdisjoint(roles):
            return Refusal(Reason.WRONG_ROLE, f"{header.sender} may not send a {expected}")
        epoch = self._keyring.find(header.sender, header.epoch)
        if epoch is None:
            return header
        digest = event_digest(envelope.header, envelope.nonce, envelope.sealed)
        verified = Verified(record, header, digest, envelope, epoch, federation)
        return _not_authentic(verified) or verified

    def granted(self, value: bytes) -> tuple[list[Record], Refusal | None]:
        """Take in a grant; returns the events that had waited for it, to be admitted again."""
        accepted = self._keyring.accept(value, self._clock.now())
        if accepted is None:
            return [], None
        if isinstance(accepted, Refusal):
            return [], accepted
        self.grants += 1
        return self._waiting.granted(accepted.epoch.sender, accepted.epoch.epoch), None

    def listed(self) -> list[Record]:
        """A new roster is known: all events that wait, to be admitted again."""
        return self._waiting.all()

    def expired(self, now: Instant) -> list[tuple[Record, Refusal]]:
        """The events whose grant did not come in time."""
        return self._waiting.expired(now)

    def _misplaced(self, header: Header, record: Record, expected: EventType) -> Refusal | None:
        if header.type != expected:
            return Refusal(Reason.WRONG_TOPIC, f"a {header.type} on {record.source.topic}")
        if header.ask.partition != record.source.number:
            where = f"made for {header.ask.partition}, found on {record.source.number}"
            return Refusal(Reason.WRONG_PARTITION, where)
        if header.task != self._rosters.base.task.hash:
            return Refusal(Reason.WRONG_TASK, f"from {header.sender}")
        return None

    def _wait(
        self, record: Record, header: Header, sender: MemberId, epoch: bytes
    ) -> Refusal | None:
        now = self._clock.now()
        if header.ask.deadline <= now:
            return Refusal(Reason.UNKNOWN_EPOCH, f"no grant of {sender} came in time")
        left = min(header.ask.deadline - now, self._limits.max_deadline_ms) / 1000
        until = Instant(self._clock.monotonic() + left)
        # Whoever no roster lists yet shares one place, so that invented names take no more.
        return self._waiting.add(
            sender if self._rosters.knows(sender) else "", epoch, record, until
        )


def _not_authentic(event: Verified) -> Refusal | None:
    header, epoch, tags = event.header, event.epoch, event.envelope.tags
    if epoch.epoch.purpose != header.type or epoch.epoch.roster != header.roster:
        what = f"an epoch for {epoch.epoch.purpose}, roster version {epoch.epoch.roster}"
        return Refusal(Reason.WRONG_EPOCH, what)
    if event.record.at > epoch.epoch.expires:
        return Refusal(Reason.EXPIRED_EPOCH, f"of {header.sender}")
    if len(tags) != epoch.readers * TAG_BYTES:
        return Refusal(Reason.BAD_TAG, f"{len(tags)} bytes for {epoch.readers} readers")
    start = epoch.place * TAG_BYTES
    if not epoch.tag.fits(event.digest, tags[start : start + TAG_BYTES]):
        return Refusal(Reason.BAD_TAG, f"not {header.sender}'s")
    return None


def _no_grant(header: Header) -> Refusal:
    return Refusal(Reason.UNKNOWN_EPOCH, f"no grant of {header.sender} came yet")


def _same_query(inner: Header, outer: Header) -> bool:
    if inner.reply is None or outer.reply is None or inner.roster != outer.roster:
        return False
    ours = (outer.ask, outer.reply.client, outer.reply.digest)
    return (inner.ask, inner.reply.client, inner.reply.digest) == ours
