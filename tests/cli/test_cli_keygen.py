"""`fi-stream keygen`: private keys, a card that belongs to them, and nothing replaced unasked."""

from __future__ import annotations

import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

from fi_stream.federation.files import load_card
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_card_is_of_the_keys(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, err = cli("keygen", "p1", "--dir", tmp_path / "keys")
    assert (code, err) == (0, "")
    keys = tmp_path / "keys" / "p1"
    assert load_card(tmp_path / "keys" / "p1.card.toml") == Identity.load(keys).card()
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    for name in ("signing.key", "sealing.key"):
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
        assert tomllib.loads((keys / name).read_text())["secret"] not in out
    assert str(keys) in out
    assert "[[members]]" in out


def test_keys_and_card_are_replaced_only_with_force(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    cli("keygen", "p1", "--dir", tmp_path)
    before = load_card(tmp_path / "p1.card.toml")
    code, out, err = cli("keygen", "p1", "--dir", tmp_path)
    assert (code, out) == (3, "")
    assert "--force" in err
    assert load_card(tmp_path / "p1.card.toml") == Identity.load(tmp_path / "p1").card() == before
    (tmp_path / "p1.card.toml").unlink()
    assert cli("keygen", "p1", "--dir", tmp_path)[0] == 3
    assert Identity.load(tmp_path / "p1").card() == before
    assert cli("keygen", "p1", "--dir", tmp_path, "--force")[0] == 0
    after = load_card(tmp_path / "p1.card.toml")
    assert Identity.load(tmp_path / "p1").card() == after != before


def test_a_card_alone_is_not_replaced_either(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "p1.card.toml").write_text("handed out already")
    assert cli("keygen", "p1", "--dir", tmp_path)[0] == 3
    assert [f.name for f in tmp_path.iterdir()] == ["p1.card.toml"]
    assert (tmp_path / "p1.card.toml").read_text() == "handed out already"


@pytest.mark.parametrize("name", ["P1", "../p1", "a b", "", "-", "x" * 65, "p1\n"])
def test_a_name_that_no_member_can_have_is_wrong_usage(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str
) -> None:
    code, out, err = cli("keygen", "--dir", tmp_path, "--", name)
    assert (code, out) == (2, "")
    assert "cannot be a" in " ".join(err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
