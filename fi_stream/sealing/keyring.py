"""The epochs of others that this process accepted, each once, from a signed grant."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, InvalidTag

from fi_stream.events.codec import SEALED_ENTRIES, unpack
from fi_stream.events.grant import Epoch, Grant, ReaderGrant, ReaderKeys, decode_grant
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.sealing.audiences import senders
from fi_stream.sealing.epochs import SIGNED, SUITE, hpke_info
from fi_stream.sealing.identity import signing_key
from fi_stream.sealing.keys import ContentKey, TagKey
from fi_stream.values import Millis

if TYPE_CHECKING:
    from fi_stream.federation.rosters import Rosters
    from fi_stream.sealing.identity import Identities, Identity
    from fi_stream.values import BrokerMillis, MemberId

MOST_EPOCHS = 256
"""Epochs remembered of one sender; a sender that makes more loses its oldest, nobody else's."""

MOST_FOR_EACH_CLIENT = 4
"""If that is more: a sender may have an epoch for each client, and the ones that follow them."""

MOST_ANNOUNCED = 4096
"""Accepted announcements whose repetition is known by its digest alone."""


NONE = Millis(0)

_Epochs = defaultdict[str, OrderedDict[bytes, "tuple[bytes, ReadingEpoch | None]"]]
"""By sender and epoch: the digest of its grant, and what it gave us."""


@dataclass(frozen=True, slots=True)
class ReadingEpoch:
    """An accepted epoch: what it is for, our place among its readers, and our keys."""

    epoch: Epoch
    place: int
    readers: int
    tag: TagKey
    content: ContentKey | None


class Keyring:
    """Accepts grants; the first valid grant of an epoch wins.

    Args:
        rosters: whose members may grant.
        me: the reader.
        identities: the reader's keys.
        past: how long an epoch is over whose events are still read, of those that were appended
            before it was.
    """

    def __init__(
        self,
        rosters: Rosters,
        me: MemberId,
        identities: Identities,
        past: Millis = NONE,
    ) -> None:
        self._past = past
        self._rosters = rosters
        self._me = me
        self._identities = identities
        self._ours: _Epochs = defaultdict(OrderedDict)
        self._others: _Epochs = defaultdict(OrderedDict)
        self._announced: dict[bytes, tuple[str, bytes]] = {}

    def find(self, sender: str, epoch: bytes) -> ReadingEpoch | None:
        """The epoch of that sender, if its grant came and named us."""
        of_sender = self._ours.get(sender)
        known = of_sender.get(epoch) if of_sender else None
        return known[1] if known else None

    def accept(self, value: bytes, now: BrokerMillis) -> ReadingEpoch | Refusal | None:
        """Take in one grant event.

        Returns:
            The epoch when it is new and for us; None when it is a repetition or for others.
        """
        announced = hashlib.sha256(value).digest()
        sender, named = self._announced.get(announced, ("", b""))
        if sender and self._accepted(sender, named) is not None:
            return None  # most announcements are repetitions: they need not even be decoded
        decoded = decode_grant(value)
        if isinstance(decoded, Refusal):
            return decoded
        signed, grant = decoded
        epoch = grant.epoch
        digest = hashlib.sha256(signed.grant).digest()
        known = self._accepted(epoch.sender, epoch.epoch)
        if known == digest:
            return None
        refusal = self._check(epoch, signed.signature, signed.grant, now)
        if refusal is not None:
            return refusal
        if known is not None:
            return Refusal(
                Reason.SECOND_GRANT, f"{epoch.sender} granted {epoch.epoch.hex()[:8]} twice"
            )
        mine = self._read(grant)
        if isinstance(mine, Refusal):
            return mine
        self._remember(epoch, digest, mine)
        self._announced[announced] = (epoch.sender, epoch.epoch)
        if len(self._announced) > MOST_ANNOUNCED:
            del self._announced[next(iter(self._announced))]
        return mine

    def _check(
        self, epoch: Epoch, signature: bytes, body: bytes, now: BrokerMillis
    ) -> Refusal | None:
        base = self._rosters.base
        if epoch.federation != base.name or epoch.task != base.task.hash:
            return Refusal(Reason.WRONG_TASK, f"a grant of {epoch.sender}")
        federation = self._rosters.of(epoch.roster)
        if federation is None:
            return Refusal(Reason.UNKNOWN_ROSTER, f"version {epoch.roster}")
        member = federation.member(epoch.sender)
        if member is None:
            return Refusal(Reason.UNKNOWN_MEMBER, epoch.sender)
        if senders(epoch.purpose).isdisjoint(member.roles):
            return Refusal(Reason.WRONG_ROLE, f"{epoch.sender} may not send {epoch.purpose}")
        try:
            signing_key(member).verify(signature, SIGNED + body)
        except InvalidSignature:
            return Refusal(Reason.BAD_SIGNATURE, f"a grant of {epoch.sender}")
        if now > epoch.expires + self._past:
            return Refusal(Reason.EXPIRED_EPOCH, f"a grant of {epoch.sender}")
        if epoch.created > now + base.policy.limits.max_skew_ms:
            return Refusal(Reason.CLOCK_SKEW, f"a grant of {epoch.sender} from the future")
        return None

    def _read(self, grant: Grant) -> ReadingEpoch | Refusal | None:
        for place, part in enumerate(grant.readers):
            if part.reader == self._me:
                federation = self._rosters.of(grant.epoch.roster)
                identity = None if federation is None else self._identities.listed(federation)
                if identity is None:
                    what = f"version {grant.epoch.roster} lists keys of ours that are not here"
                    return Refusal(Reason.UNKNOWN_ROSTER, what)
                return self._open(grant, (place, part), identity)
        return None

    def _open(
        self, grant: Grant, ours: tuple[int, ReaderGrant], identity: Identity
    ) -> ReadingEpoch | Refusal:
        epoch, (place, part) = grant.epoch, ours
        try:
            body = SUITE.decrypt(part.sealed, identity.sealing, info=hpke_info(epoch, self._me))
        except InvalidTag:
            return Refusal(Reason.DECRYPTION_FAILED, f"a grant of {epoch.sender}")
        keys = unpack(body, ReaderKeys, SEALED_ENTRIES)
        if isinstance(keys, Refusal):
            return keys
        if hashlib.sha256(keys.tag).digest() != part.commit or (
            keys.content is not None and hashlib.sha256(keys.content).digest() != grant.content
        ):
            return Refusal(Reason.BAD_SIGNATURE, f"{epoch.sender} committed to other keys")
        content = ContentKey(keys.content, epoch.epoch) if keys.content is not None else None
        return ReadingEpoch(
            epoch, place, len(grant.readers), TagKey(keys.tag, epoch.epoch), content
        )

    def _accepted(self, sender: str, epoch: bytes) -> bytes | None:
        """The digest of the grant that was accepted of this epoch, for us or for others."""
        for epochs in (self._ours, self._others):
            of_sender = epochs.get(sender)
            if of_sender and epoch in of_sender:
                return of_sender[epoch][0]
        return None

    def _remember(self, epoch: Epoch, digest: bytes, mine: ReadingEpoch | None) -> None:
        # Those for others, of which there may be many, push out none of ours.
        of_sender = (self._others if mine is None else self._ours)[epoch.sender]
        of_sender[epoch.epoch] = (digest, mine)
        newest = self._rosters.of(self._rosters.newest) or self._rosters.base
        most = max(MOST_EPOCHS, MOST_FOR_EACH_CLIENT * len(newest.clients))
        if len(of_sender) > most:
            of_sender.popitem(last=False)
