"""Shares of one answer in Z_2^64: what each of two readers holds alone is uniform (DESIGN 9).

The leader gets x - PRG(seed), the helper the seed. Sums of both are taken modulo 2^64, and their
sum is the sum of the answers, decoded signed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fi_stream.events.codec import pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fi_stream.values import MemberId

SEED_BYTES: Final = 32
ID_BYTES: Final = 16

_START: Final = bytes(16)
"""Block counter and nonce of ChaCha20: the key is of one answer only."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a share is of: one participant's answer of that shape to one query event.

    `columns` is how many numbers a row has: the classes and the weight.
    """

    client: MemberId
    query: bytes
    digest: bytes
    participant: MemberId
    rows: int
    columns: int


def new_seed() -> bytes:
    """32 fresh random bytes: of one answer, and derived from nothing that anyone knows."""
    return secrets.token_bytes(SEED_BYTES)


def new_share_id() -> bytes:
    """16 fresh random bytes that name the two shares of one answer."""
    return secrets.token_bytes(ID_BYTES)


def mask(seed: bytes, bound: Bound) -> NDArray[np.uint64]:
    """What a seed stands for: ChaCha20 under a key that HKDF-SHA256 binds to the answer.

    Returns:
        [rows, columns], uniform in Z_2^64 for whoever does not know the seed.
    """
    info = b"fi_stream share v1\0" + pack(
        {
            "client": bound.client,
            "query": bound.query,
            "digest": bound.digest,
            "participant": bound.participant,
            "shape": (bound.rows, bound.columns),
        }
    )
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(seed)
    stream = Cipher(ChaCha20(key, _START), mode=None).encryptor()
    drawn = stream.update(bytes(bound.rows * bound.columns * 8))
    return np.frombuffer(drawn, dtype="<u8").reshape(bound.rows, bound.columns)


def split(values: NDArray[np.int64], seed: bytes, bound: Bound) -> NDArray[np.uint64]:
    """The leader's share of an answer.

    Args:
        values: [rows, columns].
        seed: fresh; the helper's share.
        bound: what answer it is.

    Returns:
        [rows, columns]: values - mask, modulo 2^64.
    """
    return values.view(np.uint64) - mask(seed, bound)


def added(shares: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """The sum of shares of one shape, modulo 2^64; of at least one."""
    total: NDArray[np.uint64] = np.add.reduce(list(shares), dtype=np.uint64)
    return total


def opened(leader: NDArray[np.uint64], helper: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Both sums put together: the sum of the answers, decoded signed."""
    return (leader + helper).view(np.int64)
