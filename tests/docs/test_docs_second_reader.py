"""A second reader of the protocol, written from docs/protocol.md and with nothing of fi_stream.

It opens the golden grant and the golden query of `topics/golden/` as participant p1. What it needs
and the document does not say is a gap in the document.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from documents import ROOT, text_of

GOLDEN = ROOT / "topics" / "golden"
TEXT = text_of("docs/protocol.md")


def said(label: str) -> bytes:
    """A label that goes into a hash or a signature, as the document says it."""
    assert f'"{label}"' in TEXT
    return label.encode()


SIGNED = said("fi_stream grant v1") + b"\0"


@dataclass(frozen=True)
class Keys:
    """What the grant gave p1."""

    epoch: bytes
    tag: bytes
    content: bytes
    place: int


@pytest.fixture
def grant() -> dict[str, Any]:
    signed = msgpack.unpackb((GOLDEN / "grant-query.v1.bin").read_bytes())
    key = Ed25519PrivateKey.from_private_bytes(_secret("alice", "ed25519")).public_key()
    key.verify(signed["signature"], SIGNED + signed["grant"])
    body: dict[str, Any] = msgpack.unpackb(signed["grant"])
    return body


@pytest.fixture
def keys(grant: dict[str, Any]) -> Keys:
    names = [part["reader"] for part in grant["readers"]]
    place = names.index("p1")
    part = grant["readers"][place]
    info = SIGNED + msgpack.packb({"epoch": grant["epoch"], "reader": "p1"})
    opened = msgpack.unpackb(_hpke_open(part["sealed"], info))
    assert hashlib.sha256(opened["tag"]).digest() == part["commit"]
    assert hashlib.sha256(opened["content"]).digest() == grant["content"]
    epoch = grant["epoch"]["epoch"]
    return Keys(
        epoch,
        tag=_hkdf(opened["tag"], epoch, said("fi_stream v1 tag")),
        content=_hkdf(opened["content"], epoch, said("fi_stream v1 content")),
        place=place,
    )


def test_the_document_says_enough_to_check_and_open_a_query(keys: Keys) -> None:
    event = msgpack.unpackb((GOLDEN / "query.v1.bin").read_bytes())
    header, expected = msgpack.unpackb(event["header"]), _json("query.v1.json")
    length = len(event["header"]).to_bytes(4, "big")
    digest = hashlib.sha256(length + event["header"] + event["nonce"] + event["sealed"]).digest()
    assert digest.hex() == expected["digest"]
    assert header["epoch"] == keys.epoch
    tag = event["tags"][16 * keys.place :][:16]
    assert tag == _hmac(keys.tag, digest)[:16]
    frame = AESGCM(keys.content).decrypt(event["nonce"], event["sealed"], event["header"])
    size = int.from_bytes(frame[:4], "big")
    assert len(frame) % 64 == 0
    assert not any(frame[4 + size :])
    (tensor,) = msgpack.unpackb(frame[4 : 4 + size])["inputs"]
    (wanted,) = expected["payload"]["inputs"]
    assert (tensor["name"], tensor["datatype"]) == (wanted["name"], "FP32")
    assert tensor["shape"] == wanted["shape"]
    assert header["ask"]["rows"] == len(wanted["values"])


def test_the_document_says_enough_to_hash_a_task() -> None:
    known = _json("keys.v1.json")
    text = json.dumps(known["task"], sort_keys=True).encode()
    assert (
        hashlib.sha256(said("fi_stream task v1") + b"\0" + text).hexdigest() == known["task_hash"]
    )


def _hpke_open(sealed: bytes, info: bytes) -> bytes:
    """RFC 9180, base mode, with X-Wing."""
    encapsulated, ciphertext = sealed[:1120], sealed[1120:]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(_secret("p1", "mlkem768"))
    x25519 = X25519PrivateKey.from_private_bytes(_secret("p1", "x25519"))
    theirs = encapsulated[1088:]
    shared = hashlib.sha3_256(
        mlkem.decapsulate(encapsulated[:1088])
        + x25519.exchange(X25519PublicKey.from_public_bytes(theirs))
        + theirs
        + x25519.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, content: bytes) -> bytes:
        return _hmac(salt or bytes(32), b"HPKE-v1" + suite + label + content)

    def expand(label: bytes, length: int) -> bytes:
        told = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return _hmac(secret, told + b"\x01")[:length]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return AESGCM(expand(b"key", 32)).decrypt(expand(b"base_nonce", 12), ciphertext, b"")


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return _hmac(_hmac(salt, secret), info + b"\x01")


def _hmac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _secret(member: str, kind: str) -> bytes:
    return bytes.fromhex(_json("keys.v1.json")["members"][member][kind])


def _json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text("utf-8"))
