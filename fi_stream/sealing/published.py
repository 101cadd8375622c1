"""Versions of the roster signed by the federation's key, and their signatures checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from fi_stream.errors import ConfigError
from fi_stream.events.codec import pack
from fi_stream.events.header import VERSION
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.roster import RosterMember, RosterVersion, SignedRoster, decode_roster
from fi_stream.federation.federation import Federation
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rosters import Published
from fi_stream.sealing import keyfiles
from fi_stream.sealing.keyfiles import KeyFile
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path

SIGNED: Final = b"fi_stream roster v1\0"
"""What every signed roster starts with, so that no other signature can pass for one."""

ROSTER_FILE: Final = "roster.key"
_KIND: Final = "ed25519-roster"


class RosterKey:
    """The federation's private key, which signs rosters; nothing that prints it shows it."""

    __slots__ = ("_key", "federation")

    def __init__(self, federation: str, key: Ed25519PrivateKey) -> None:
        self.federation = federation
        self._key = key

    @classmethod
    def generate(cls, federation: str) -> RosterKey:
        """A new key for that federation."""
        return cls(federation, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, directory: Path) -> RosterKey:
        """Read the key in `directory`.

        Raises:
            ConfigError: it is missing, damaged, or readable by others.
        """
        found = keyfiles.read(directory / ROSTER_FILE, _KIND, 32)
        return cls(found.member, Ed25519PrivateKey.from_private_bytes(found.secret))

    def save(self, directory: Path) -> None:
        """Write the key to `directory`, which must be new or empty.

        Raises:
            ConfigError: something is there already, or nothing can be written there.
        """
        key = KeyFile(self.federation, _KIND, self._key.private_bytes_raw())
        keyfiles.write(directory, {ROSTER_FILE: key}, force=False)

    @property
    def public(self) -> bytes:
        """The `signing_key` of federation.toml, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def publish(self, federation: Federation, effective: BrokerMillis) -> Published:
        """Sign the federation's roster, for the queries from `effective` on.

        Raises:
            ConfigError: the federation knows another key.
        """
        if federation.signing_key != self.public:
            raise ConfigError(
                f"the roster key of {self.federation} is not the `signing_key` of federation "
                f"{federation.name}: use the directory that `fi-stream roster key` made for it"
            )
        body = pack(_event(federation, effective))
        signature = self._key.sign(SIGNED + body)
        value = pack(SignedRoster(roster=body, signature=signature))
        return Published(federation, effective, value)

    def __repr__(self) -> str:
        return f"RosterKey({self.federation!r}, key hidden)"


def read_roster(value: bytes, base: Federation) -> Published | Refusal:
    """Check a roster event against the federation that we know: same name, task and key."""
    decoded = decode_roster(value)
    if isinstance(decoded, Refusal):
        return decoded
    signed, event = decoded
    what = f"a roster of {event.federation}"
    if event.federation != base.name or event.task != base.task.hash:
        return Refusal(Reason.WRONG_TASK, what)
    if base.signing_key is None:
        return Refusal(Reason.BAD_SIGNATURE, "our federation.toml has no signing_key")
    try:
        key = Ed25519PublicKey.from_public_bytes(base.signing_key)
        key.verify(signed.signature, SIGNED + signed.roster)
    except InvalidSignature:
        return Refusal(Reason.BAD_SIGNATURE, what)
    try:
        federation = Federation(
            name=base.name,
            signing_key=base.signing_key,
            task=base.task,
            policy=base.policy,
            roster=Roster(
                version=event.version,
                members=tuple(_member(member) for member in event.members),
                revoked=event.revoked,
            ),
        )
    except (ValidationError, ValueError):
        return Refusal(Reason.MALFORMED, f"{what}: it does not fit our policy and task")
    return Published(federation, BrokerMillis(event.effective), value)


def _event(federation: Federation, effective: BrokerMillis) -> RosterVersion:
    roster = federation.roster
    return RosterVersion(
        type="roster",
        v=VERSION,
        federation=federation.name,
        task=federation.task.hash,
        version=roster.version,
        effective=effective,
        members=tuple(
            RosterMember(
                id=member.id,
                signing_key=member.signing_key,
                sealing_key=member.sealing_key,
                roles=tuple(sorted(member.roles)),
                examples=member.examples,
            )
            for member in roster.members
        ),
        revoked=roster.revoked,
    )


def _member(member: RosterMember) -> Member:
    return Member(
        id=member.id,
        signing_key=member.signing_key,
        sealing_key=member.sealing_key,
        roles=frozenset(Role(role) for role in member.roles),
        examples=member.examples,
    )
