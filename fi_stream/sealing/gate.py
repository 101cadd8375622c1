"""The way in: every event is checked here before anything is decided from it (DESIGN 7).

Order: bounded decoding; topic, partition, task, roster and role; the epoch's grant; our tag.
Duplicates are the caller's to find, between `admit` and `open`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.events.envelope import TAG_BYTES, Envelope, decode_envelope, event_digest
from fi_stream.events.payloads import unframe
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.sealing.keyring import ROLE_OF, Keyring
from fi_stream.sealing.waiting import WaitingRoom
from fi_stream.values import Instant

if TYPE_CHECKING:
    from typing import TypeVar

    from fi_stream.clock import BrokerClock
    from fi_stream.events.header import EventType, Header
    from fi_stream.federation.federation import Federation
    from fi_stream.sealing.keyring import ReadingEpoch
    from fi_stream.transport.port import Partition, Record
    from fi_stream.values import Value

    T = TypeVar("T", bound=Value)


@dataclass(frozen=True, slots=True)
class Verified:
    """An event whose sender is proven; its payload is still sealed."""

    record: Record
    header: Header
    digest: bytes
    envelope: Envelope
    epoch: ReadingEpoch

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

    def __init__(self, federation: Federation, keyring: Keyring, clock: BrokerClock) -> None:
        self._federation = federation
        self._roles = {member.id: member.roles for member in federation.roster.members}
        self._keyring = keyring
        self._clock = clock
        self._waiting = WaitingRoom()

    @property
    def waiting(self) -> int:
        """Events that wait for a grant."""
        return len(self._waiting)

    def oldest_waiting(self, source: Partition) -> int | None:
        """The lowest offset of this partition that waits for a grant."""
        return self._waiting.oldest(source)

    def admit(self, record: Record, expected: EventType) -> Verified | Refusal | None:
        """Check one event; None when it waits for its grant."""
        limits = self._federation.policy.limits
        if len(record.value) > limits.max_message_bytes:
            return Refusal(Reason.TOO_LARGE, f"{len(record.value)} bytes")
        decoded = decode_envelope(record.value)
        if isinstance(decoded, Refusal):
            return decoded
        envelope, header = decoded
        refusal = self._misplaced(header, record, expected)
        if refusal is not None:
            return refusal
        epoch = self._keyring.find(header.sender, header.epoch)
        if epoch is None:
            return self._wait(record, header)
        return _authenticate(record, header, envelope, epoch)

    def granted(self, value: bytes) -> tuple[list[Record], Refusal | None]:
        """Take in a grant; returns the events that had waited for it, to be admitted again."""
        accepted = self._keyring.accept(value, self._clock.now())
        if accepted is None:
            return [], None
        if isinstance(accepted, Refusal):
            return [], accepted
        return self._waiting.granted(accepted.epoch.sender, accepted.epoch.epoch), None

    def expired(self, now: Instant) -> list[tuple[Record, Refusal]]:
        """The events whose grant did not come in time."""
        return self._waiting.expired(now)

    def _misplaced(self, header: Header, record: Record, expected: EventType) -> Refusal | None:
        federation = self._federation
        if header.type != expected:
            return Refusal(Reason.WRONG_TOPIC, f"a {header.type} on {record.source.topic}")
        if header.ask.partition != record.source.number:
            where = f"made for {header.ask.partition}, found on {record.source.number}"
            return Refusal(Reason.WRONG_PARTITION, where)
        if header.task != federation.task.hash:
            return Refusal(Reason.WRONG_TASK, f"from {header.sender}")
        if header.roster != federation.roster.version:
            return Refusal(Reason.UNKNOWN_ROSTER, f"version {header.roster}")
        roles = self._roles.get(header.sender)
        if roles is None:
            return Refusal(Reason.UNKNOWN_MEMBER, header.sender)
        if ROLE_OF[expected] not in roles:
            return Refusal(Reason.WRONG_ROLE, f"{header.sender} may not send a {expected}")
        return None

    def _wait(self, record: Record, header: Header) -> Refusal | None:
        now = self._clock.now()
        if header.ask.deadline <= now:
            return Refusal(Reason.UNKNOWN_EPOCH, f"no grant of {header.sender} came in time")
        longest = self._federation.policy.limits.max_deadline_ms
        left = min(header.ask.deadline - now, longest) / 1000
        until = Instant(self._clock.monotonic() + left)
        return self._waiting.add(header.sender, header.epoch, record, until)


def _authenticate(
    record: Record, header: Header, envelope: Envelope, epoch: ReadingEpoch
) -> Verified | Refusal:
    if epoch.epoch.purpose != header.type:
        return Refusal(Reason.WRONG_EPOCH, f"an epoch for {epoch.epoch.purpose}")
    if record.at > epoch.epoch.expires:
        return Refusal(Reason.EXPIRED_EPOCH, f"of {header.sender}")
    if len(envelope.tags) != epoch.readers * TAG_BYTES:
        return Refusal(Reason.BAD_TAG, f"{len(envelope.tags)} bytes for {epoch.readers} readers")
    digest = event_digest(envelope.header, envelope.nonce, envelope.sealed)
    start = epoch.place * TAG_BYTES
    if not epoch.tag.fits(digest, envelope.tags[start : start + TAG_BYTES]):
        return Refusal(Reason.BAD_TAG, f"not {header.sender}'s")
    return Verified(record, header, digest, envelope, epoch)
