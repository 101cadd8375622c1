"""Keys on disk: for their owner alone, whole or refused, and shown by nothing."""

from __future__ import annotations

import base64
import os
import pickle
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.federation.files import load_as
from fi_stream.federation.roster import Card, Role
from fi_stream.sealing.identity import Identity, load_identities, sealing_key, signing_key

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("signing.key", "sealing.key")


@pytest.fixture
def keys(tmp_path: Path, identities: dict[str, Identity]) -> Path:
    identities["p1"].save(tmp_path / "p1")
    return tmp_path / "p1"


def test_keys_read_back_sign_and_open(keys: Path) -> None:
    identity = Identity.load(keys)
    card = identity.card()
    signing_key(card).verify(identity.sign(b"words"), b"words")
    with pytest.raises(InvalidSignature):
        signing_key(card).verify(identity.sign(b"words"), b"other words")
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    sealed = suite.encrypt(b"secret", sealing_key(card), info=b"here")
    assert suite.decrypt(sealed, identity.sealing, info=b"here") == b"secret"


def test_loaded_keys_are_those_that_were_saved(keys: Path, identities: dict[str, Identity]) -> None:
    assert Identity.load(keys).card() == identities["p1"].card()
    assert Identity.load(keys).card() != identities["p2"].card()


def test_files_are_for_the_owner_alone_whatever_the_umask(
    tmp_path: Path, identities: dict[str, Identity]
) -> None:
    before = os.umask(0)
    try:
        identities["p1"].save(tmp_path / "deep" / "p1")
    finally:
        os.umask(before)
    directory = tmp_path / "deep" / "p1"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in directory.iterdir()} == dict.fromkeys(
        FILES, 0o600
    )
    assert [f.name for f in directory.parent.iterdir()] == ["p1"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_may_read_is_refused(keys: Path, name: str, mode: int) -> None:
    (keys / name).chmod(mode)
    with pytest.raises(ConfigError, match=rf"run `chmod 600 {keys / name}`"):
        Identity.load(keys)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_is_refused(keys: Path, name: str) -> None:
    (keys / name).unlink()
    with pytest.raises(ConfigError, match=rf"{keys / name}: there is no such key file"):
        Identity.load(keys)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_place_of_a_key_is_refused(keys: Path, name: str) -> None:
    (keys / name).unlink()
    (keys / name).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        Identity.load(keys)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_a_damaged_key_is_refused_and_not_repeated(
    tmp_path_factory: pytest.TempPathFactory,
    identities: dict[str, Identity],
    name: str,
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("damaged") / "p1"
    identities["p1"].save(directory)
    whole = (directory / name).read_text()
    secret = tomllib.loads(whole)["secret"]
    start = whole.index(secret)
    at = data.draw(st.integers(start, start + len(secret) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "noise"]))
    spoilt = {
        "cut": whole[:at],
        "flip": whole[:at] + ("B" if whole[at] == "A" else "A") + whole[at + 1 :],
        "noise": whole[:at] + "\x00" + whole[at:],
    }[kind]
    raw = base64.b64decode(secret)
    if kind == "flip" and _decoded(tomllib.loads(spoilt)["secret"]) == raw:
        return  # the unused bits of the last character mean nothing
    (directory / name).write_text(spoilt)
    with pytest.raises(ConfigError, match="this key file is damaged") as caught:
        Identity.load(directory)
    assert secret[:8] not in str(caught.value)
    assert caught.value.__cause__ is None


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def test_the_keys_of_two_members_do_not_mix(
    tmp_path: Path, keys: Path, identities: dict[str, Identity]
) -> None:
    identities["p2"].save(tmp_path / "p2")
    (tmp_path / "p2" / "sealing.key").replace(keys / "sealing.key")
    with pytest.raises(ConfigError, match=r"signing\.key is of p1 and sealing\.key of p2"):
        Identity.load(keys)


def test_keys_are_never_replaced_unasked(keys: Path, identities: dict[str, Identity]) -> None:
    before = {name: (keys / name).read_bytes() for name in FILES}
    with pytest.raises(ConfigError, match=r"p1: is there already; .*--force"):
        identities["p2"].save(keys)
    assert {name: (keys / name).read_bytes() for name in FILES} == before
    assert [f.name for f in keys.parent.iterdir()] == ["p1"]


def test_force_replaces_both_keys_and_nothing_else(
    keys: Path, identities: dict[str, Identity]
) -> None:
    (keys / "notes.txt").write_text("mine")
    identities["p2"].save(keys, force=True)
    assert Identity.load(keys).card() == identities["p2"].card()
    assert (keys / "notes.txt").read_text() == "mine"
    assert [f.name for f in keys.parent.iterdir()] == ["p1"]


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, identities: dict[str, Identity]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="keys cannot be written"):
        identities["p1"].save(tmp_path / "file" / "p1")


def test_nothing_that_prints_an_identity_shows_its_keys(
    keys: Path, identities: dict[str, Identity]
) -> None:
    identity = identities["p1"]
    secrets = [tomllib.loads((keys / name).read_text())["secret"] for name in FILES]
    shown = f"{identity!r} {identity} {[identity]} {identity.card()} {identity.sealing!r}"
    for secret in secrets:
        assert secret[:12] not in shown
        assert repr(base64.b64decode(secret))[2:20] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(identity)


def test_a_card_with_a_damaged_sealing_key_is_refused() -> None:
    card = Card(id="p1", signing_key=bytes(32), sealing_key=b"\xff" * 1216)
    with pytest.raises(ConfigError, match="the card of p1: sealing_key is damaged"):
        sealing_key(card)


def test_the_roster_must_know_the_keys(home: Path, identities: dict[str, Identity]) -> None:
    member, federation = load_as(Role.PARTICIPANT, home / "member.toml")
    listed = load_identities(member, federation).listed(federation)
    assert listed is not None
    assert listed.card() == federation.card("p1")
    Identity.generate("p1").save(home / "keys" / "p1", force=True)
    with pytest.raises(ConfigError, match="the roster has other keys for p1"):
        load_identities(member, federation)
    identities["p2"].save(home / "keys" / "p1", force=True)
    with pytest.raises(ConfigError, match="these are the keys of p2, not of p1"):
        load_identities(member, federation)
