"""The two keys of an epoch as one process uses them: a cipher for content, an HMAC for each tag.

Both are derived with HKDF from the secrets of a grant, so content and tags never share a key.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fi_stream.events.envelope import NONCE_BYTES, TAG_BYTES


class TagKey:
    """Makes and checks one reader's tags."""

    __slots__ = ("_ready",)

    def __init__(self, secret: bytes, epoch: bytes) -> None:
        self._ready = HMAC(_derive(secret, epoch, b"tag"), hashes.SHA256())

    def tag(self, digest: bytes) -> bytes:
        """HMAC-SHA256 over an event's digest, cut to 16 bytes."""
        mac = self._ready.copy()
        mac.update(digest)
        return mac.finalize()[:TAG_BYTES]

    def fits(self, digest: bytes, tag: bytes) -> bool:
        """Whether the tag is this key's for that digest, compared in constant time."""
        return hmac.compare_digest(self.tag(digest), tag)


class ContentKey:
    """Seals and opens payloads with AES-256-GCM, the header bytes being the associated data."""

    __slots__ = ("_cipher",)

    def __init__(self, secret: bytes, epoch: bytes) -> None:
        self._cipher = AESGCM(_derive(secret, epoch, b"content"))

    def seal(self, header: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """A random nonce and the ciphertext under it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce, self._cipher.encrypt(nonce, payload, header)

    def open(self, header: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
        """The payload, or None when header, nonce or ciphertext is not what was sealed."""
        try:
            return self._cipher.decrypt(nonce, sealed, header)
        except InvalidTag:
            return None


def _derive(secret: bytes, epoch: bytes, use: bytes) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=epoch, info=b"fi_stream v1 " + use)
    return kdf.derive(secret)
