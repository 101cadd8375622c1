"""An epoch of our own: its keys, the grant that hands them out, the sealing under it."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fi_stream.errors import SealingError
from fi_stream.events.codec import pack
from fi_stream.events.envelope import encode_envelope, event_digest
from fi_stream.events.grant import Epoch, Grant, ReaderGrant, ReaderKeys, SignedGrant
from fi_stream.events.header import VERSION
from fi_stream.sealing.identity import sealing_key
from fi_stream.sealing.keys import ContentKey, TagKey
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.events.header import Ask, Purpose, Reply
    from fi_stream.federation.federation import Federation
    from fi_stream.sealing.audiences import Audience
    from fi_stream.sealing.identity import Identity
    from fi_stream.values import MemberId

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
"""HPKE (RFC 9180) with a hybrid KEM: post-quantum confidentiality for the keys of an epoch."""

SIGNED = b"fi_stream grant v1\0"
"""What every signed grant starts with, so that no other signature can pass for one."""

KEY_LIFE = Millis(3_600_000)
RENEWAL = Millis(120_000)
"""How long a worn-out epoch may still be sealed under: until the next look at it, every 30 s, and
until a broker that is away has acknowledged the grant of the next one."""

MOST_MESSAGES = 2**24


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event ready to append, and the digest that names it."""

    value: bytes
    digest: bytes


class OwnEpoch:
    """One epoch of this process; in memory only, and of no use after a fork."""

    def __init__(
        self, identity: Identity, federation: Federation, epoch: Epoch, audience: Audience
    ) -> None:
        content = secrets.token_bytes(32)
        tags = [secrets.token_bytes(32) for _ in audience.readers()]
        self.epoch = epoch
        self.messages = 0
        self.grant = _grant(identity, federation, epoch, audience, (content, tags))
        self._content = ContentKey(content, epoch.epoch)
        self._tags = [TagKey(secret, epoch.epoch) for secret in tags]
        self._header = _header_of(epoch)
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<epoch {self.epoch.epoch.hex()[:8]} of {self.epoch.sender}: {self.epoch.purpose}>"

    def worn_out(self, now: BrokerMillis) -> bool:
        """Whether it is time for the next epoch: by age, or by number of messages."""
        return now >= self.epoch.created + KEY_LIFE or self.messages >= MOST_MESSAGES

    def seal(self, ask: Ask, reply: Reply | None, payload: bytes) -> Sealed:
        """Seal one event to the readers of this epoch.

        Raises:
            SealingError: this process is a fork of the one that made the epoch.
        """
        self._refuse_fork()
        # The parts are valid since they were made: a `Header` would only check them once more.
        fields = {**self._header, "ask": vars(ask)}
        if reply is not None:
            fields["reply"] = reply.fields()
        header = pack(fields)
        nonce, sealed = self._content.seal(header, payload)
        digest = event_digest(header, nonce, sealed)
        tags = b"".join([key.tag(digest) for key in self._tags])
        self.messages += 1
        return Sealed(encode_envelope(header, nonce, sealed, tags), digest)

    def seal_part(self, associated: bytes, content: bytes) -> tuple[bytes, bytes]:
        """Seal something that travels in another epoch's event, whose tags cover it.

        Returns:
            The nonce, and the ciphertext bound to `associated`.

        Raises:
            SealingError: this process is a fork of the one that made the epoch.
        """
        self._refuse_fork()
        self.messages += 1
        return self._content.seal(associated, content)

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise SealingError(
                f"{self!r} was made before a fork: two processes must not seal under one key. "
                "Make an epoch in the child."
            )


def new_epoch(
    identity: Identity,
    federation: Federation,
    what: tuple[MemberId, Purpose],
    audience: Audience,
    now: BrokerMillis,
) -> OwnEpoch:
    """Begin an epoch of (sender, purpose) for that audience; publish its grant before use."""
    sender, purpose = what
    epoch = Epoch(
        federation=federation.name,
        task=federation.task.hash,
        roster=federation.roster.version,
        sender=sender,
        epoch=secrets.token_bytes(16),
        purpose=purpose,
        created=now,
        expires=now + KEY_LIFE + RENEWAL + federation.policy.limits.max_deadline_ms,
    )
    return OwnEpoch(identity, federation, epoch, audience)


def hpke_info(epoch: Epoch, reader: MemberId) -> bytes:
    """What an HPKE ciphertext is bound to: the whole epoch and the one reader."""
    return SIGNED + pack({"epoch": epoch.model_dump(), "reader": reader})


def _header_of(epoch: Epoch) -> dict[str, object]:
    """What every header under this epoch begins with: the fields of `Header`, in its order."""
    return {
        "type": epoch.purpose,
        "v": VERSION,
        "task": epoch.task,
        "roster": epoch.roster,
        "sender": epoch.sender,
        "epoch": epoch.epoch,
    }


def _grant(
    identity: Identity,
    federation: Federation,
    epoch: Epoch,
    audience: Audience,
    secret: tuple[bytes, list[bytes]],
) -> bytes:
    content, tags = secret
    readers = []
    for reader, tag in zip(audience.readers(), tags, strict=True):
        member = federation.roster.member(reader)
        if member is None:
            raise SealingError(f"{reader!r} is to read {epoch.purpose} events and is in no roster")
        keys = ReaderKeys(tag=tag, content=content if reader in audience.openers else None)
        sealed = SUITE.encrypt(pack(keys), sealing_key(member), info=hpke_info(epoch, reader))
        commit = hashlib.sha256(tag).digest()
        readers.append(ReaderGrant(reader=reader, sealed=sealed, commit=commit))
    body = pack(
        Grant(
            type="grant",
            v=VERSION,
            epoch=epoch,
            content=hashlib.sha256(content).digest(),
            readers=tuple(readers),
        )
    )
    return pack(SignedGrant(grant=body, signature=identity.sign(SIGNED + body)))
