"""A member's own keys: Ed25519 to sign, ML-KEM-768 with X25519 to be sealed to (DESIGN 4 and 7).

On disk they are `signing.key` and `sealing.key` in a directory of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from fi_stream.errors import ConfigError
from fi_stream.federation.roster import Card
from fi_stream.sealing import keyfiles
from fi_stream.sealing.keyfiles import KeyFile

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings

NEXT: Final = "next"
"""The directory, inside that of a member's keys, of those that a later roster version lists."""

SIGNING_FILE: Final = "signing.key"
SEALING_FILE: Final = "sealing.key"
_SIGNING, _SEALING = "ed25519", "mlkem768-x25519"
_MLKEM_SEED, _MLKEM_PUBLIC = 64, 1184


class Identity:
    """One member's private keys; nothing that prints it shows them."""

    __slots__ = ("_mlkem", "_signing", "_x25519", "member")

    def __init__(
        self,
        member: str,
        signing: Ed25519PrivateKey,
        mlkem: MLKEM768PrivateKey,
        x25519: X25519PrivateKey,
    ) -> None:
        self.member = member
        self._signing = signing
        self._mlkem = mlkem
        self._x25519 = x25519

    @classmethod
    def generate(cls, member: str) -> Identity:
        """New keys for that member."""
        return cls(
            member,
            Ed25519PrivateKey.generate(),
            MLKEM768PrivateKey.generate(),
            X25519PrivateKey.generate(),
        )

    @classmethod
    def load(cls, directory: Path) -> Identity:
        """Read the keys in `directory`.

        Raises:
            ConfigError: a file is missing, damaged, another member's, or readable by others.
        """
        signing = keyfiles.read(directory / SIGNING_FILE, _SIGNING, 32)
        sealing = keyfiles.read(directory / SEALING_FILE, _SEALING, _MLKEM_SEED + 32)
        if signing.member != sealing.member:
            raise ConfigError(
                f"{directory}: {SIGNING_FILE} is of {signing.member} and {SEALING_FILE} of "
                f"{sealing.member}; put back the two files that were made together"
            )
        return cls(
            signing.member,
            Ed25519PrivateKey.from_private_bytes(signing.secret),
            MLKEM768PrivateKey.from_seed_bytes(sealing.secret[:_MLKEM_SEED]),
            X25519PrivateKey.from_private_bytes(sealing.secret[_MLKEM_SEED:]),
        )

    def save(self, directory: Path, *, force: bool = False) -> None:
        """Write the keys to `directory`, which is made if need be; all at once or not at all.

        With `force`, keys that are there already are replaced.

        Raises:
            ConfigError: keys are there already, or the directory cannot be written.
        """
        signing = self._signing.private_bytes_raw()
        sealing = self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()
        files = {
            SIGNING_FILE: KeyFile(self.member, _SIGNING, signing),
            SEALING_FILE: KeyFile(self.member, _SEALING, sealing),
        }
        keyfiles.write(directory, files, force=force)

    def card(self) -> Card:
        """The public card: what other members need to know."""
        return Card(
            id=self.member,
            signing_key=self._signing.public_key().public_bytes_raw(),
            sealing_key=self._mlkem.public_key().public_bytes_raw()
            + self._x25519.public_key().public_bytes_raw(),
        )

    def sign(self, content: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self._signing.sign(content)

    @property
    def sealing(self) -> MLKEM768X25519PrivateKey:
        """The HPKE private key that opens what was sealed to this member."""
        return MLKEM768X25519PrivateKey(self._mlkem, self._x25519)

    def __repr__(self) -> str:
        return f"Identity({self.member!r}, keys hidden)"


class Identities:
    """All the keys that one member has: those in use, and the next ones while they rotate."""

    def __init__(self, *identities: Identity, directory: Path | None = None) -> None:
        self._by_card = {identity.card(): identity for identity in identities}
        self._directory = directory

    @property
    def member(self) -> str:
        """Whose keys these are."""
        return next(iter(self._by_card)).id

    @classmethod
    def load(cls, directory: Path) -> Identities:
        """Read the keys in `directory`, and those in its `next/` if there are any.

        Raises:
            ConfigError: a file is missing, damaged, another member's, or readable by others.
        """
        return cls(*_read(directory), directory=directory)

    def listed(self, federation: Federation) -> Identity | None:
        """The keys that this version of the federation lists for the member, if they are here."""
        return next(
            (
                identity
                for card, identity in self._by_card.items()
                if federation.card(card.id) == card
            ),
            None,
        )

    def look_again(self) -> None:
        """Read what is in the directory now; what was read before stays.

        Raises:
            ConfigError: a file is missing, damaged, another member's, or readable by others.
        """
        if self._directory is not None:
            self._by_card |= {each.card(): each for each in _read(self._directory)}


def _read(directory: Path) -> list[Identity]:
    identities = [Identity.load(directory)]
    if (directory / NEXT).is_dir():
        identities.append(Identity.load(directory / NEXT))
    if len({identity.member for identity in identities}) > 1:
        raise ConfigError(
            f"{directory / NEXT}: these are the keys of {identities[-1].member}, not of "
            f"{identities[0].member}; `fi-stream keygen` makes the next keys of a member"
        )
    return identities


def load_identities(member: MemberSettings, federation: Federation) -> Identities:
    """Read a member's keys and see that the roster has the same.

    Raises:
        ConfigError: the keys cannot be used, or are not those that the roster knows.
    """
    directory = member.member.keys
    identities = Identities.load(directory)
    if identities.member != member.id:
        raise ConfigError(
            f"{directory}: these are the keys of {identities.member}, not of {member.id}; "
            "set `keys` in [member] to the right directory"
        )
    if federation.card(member.id) is None:
        raise ConfigError(
            f"{member.member.federation}: {member.id} is not in the roster; "
            "have its card added, or set `id` in [member]"
        )
    if identities.listed(federation) is None:
        raise ConfigError(
            f"{member.member.federation}: the roster has other keys for {member.id} than "
            f"{directory}; put back the old keys, or have the new card added to the roster"
        )
    return identities


def signing_key(card: Card) -> Ed25519PublicKey:
    """The key that checks this member's signatures."""
    return Ed25519PublicKey.from_public_bytes(card.signing_key)


def sealing_key(card: Card) -> MLKEM768X25519PublicKey:
    """The HPKE key that seals to this member.

    Raises:
        ConfigError: the bytes on the card are not an ML-KEM-768 key.
    """
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(card.sealing_key[:_MLKEM_PUBLIC])
    except ValueError:
        raise ConfigError(
            f"the card of {card.id}: sealing_key is damaged; "
            "copy it again from the card that `fi-stream keygen` wrote"
        ) from None
    x25519 = X25519PublicKey.from_public_bytes(card.sealing_key[_MLKEM_PUBLIC:])
    return MLKEM768X25519PublicKey(mlkem, x25519)
