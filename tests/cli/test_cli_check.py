"""`fi-stream check`: each mistake of each kind of file, with its place and the fix."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

import pytest

from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NOISE = 'epsilon = 1\ndelta = 1e-6\nbudget = 9\nledger = "no/ledger"\n'


@pytest.fixture
def home(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Path:
    cli("init", tmp_path / "fed")
    return tmp_path / "fed"


def _change(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def _line(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().split("\n"), 1) if text in line)


def test_each_kind_of_file_is_recognised_by_its_content(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    cli("keygen", "p9", "--dir", home)
    (home / "federation.toml").rename(home / "a.toml")
    (home / "p9.card.toml").rename(home / "b.toml")
    (home / "c.toml").write_text("[tool]\nx = 1\n")
    code, out, _ = cli("check", home / "a.toml", home / "b.toml", home / "c.toml")
    assert code == 3
    assert f"ok     {home}/a.toml: federation, local version 1, 5 members" in out
    assert f"ok     {home}/b.toml: card, of p9" in out
    assert f"wrong  {home}/c.toml: is no file of ours" in out


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        (("[model]", "[model"), "[model", "is not valid TOML"),
        (("logits", "odds"), "gives", "model.gives: write 'probabilities' or 'logits'"),
        (('id = "p1"', 'id = "p8"'), "id =", "member.id: p8 is not in the roster"),
        (('"participant"', '"client"'), "role", "member.role: p1 is no client in the roster"),
        (('"keys"', '"nokeys"'), "keys =", "member.keys: "),
        (('"keys"', '"../p2/keys"'), "keys =", "member.keys: "),
        (("model:load", "modle:load"), "factory", "model.factory: there is no module modle"),
        (('factory = "model:load"', 'onnx = "m"'), "onnx", "model.onnx: there is no file"),
        (("bootstrap.servers", "bootstrap.server"), "[kafka]", "kafka: "),
        (('"none"\n', f'"gaussian"\n{_NOISE}'), "ledger =", "privacy.ledger: there is no director"),
        (('"none"\n', f'"gaussian"\n{_NOISE}'), "mechanism =", "privacy.mechanism: does not go wi"),
    ],
)
def test_a_mistake_in_a_member_file_is_placed(
    cli: Callable[..., tuple[int, str, str]],
    home: Path,
    change: tuple[str, str],
    at: str,
    said: str,
) -> None:
    file = _change(home / "p1" / "member.toml", *change)
    code, out, _ = cli("check", file)
    assert code == 3
    line = _line(file, at)
    assert f"wrong  {file}:{line}: {said}" in out


def test_the_federation_of_a_member_is_checked_too(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    federation = _change(home / "federation.toml", "quorum = 2", "quorum = 9")
    member = home / "client" / "member.toml"
    code, out, _ = cli("check", member)
    assert code == 3
    assert f"{federation}:{_line(federation, 'quorum')}: policy.quorum: 9 answers" in out


def test_noise_of_the_aggregator_is_checked_on_both_sides(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    federation = home / "federation.toml"
    _change(federation, "[policy.limits]", "[policy.noisy_max]\nepsilon = 2.0\n\n[policy.limits]")
    code, out, _ = cli("check", federation)
    place = f"{federation}:{_line(federation, '[policy.noisy_max]')}"
    assert (code, f"wrong  {place}: policy.noisy_max: " in out) == (3, True)
    assert "use 'label'" in out
    assert "early_exit = true: use false" in out
    for old, new in (
        ('form = "probabilities"', 'form = "label"'),
        ('rules = ["soft", "hard", "entropy"]', 'rules = ["hard"]'),
        ("early_exit = true", "early_exit = false"),
        ('protections = ["trusted", "blind"]', 'protections = ["trusted"]'),
    ):
        _change(federation, old, new)
    assert cli("check", federation)[0] == 0
    code, out, _ = cli("check", home / "aggregator" / "member.toml")
    assert code == 3
    assert "privacy.mechanism: does not go with the policy" in out
    assert 'mechanism = "noisy_max"' in out


def test_secure_sums_are_checked_on_all_sides(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    cli("init", tmp_path / "fed", "--secagg")
    federation = tmp_path / "fed" / "federation.toml"
    participant = tmp_path / "fed" / "p1" / "member.toml"
    helper = tmp_path / "fed" / "helper" / "member.toml"
    _change(federation, "k_min = 2", "k_min = 2\nepsilon = 4.0\ndelta = 1e-5")
    _change(helper, '"releases.sqlite"', '"none/releases.sqlite"')
    code, out, _ = cli("check", federation, participant, helper)
    assert code == 3
    assert "secure sums carry Gaussian noise" in out
    assert f"{helper}:{_line(helper, 'store')}: helper.store: there is no directory" in out
    _change(federation, "colluders = 0", "colluders = 1")
    code, out, _ = cli("check", federation)
    assert code == 3
    assert "policy.secagg.colluders" in out


def test_a_key_that_others_may_read_is_told(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    (home / "p2" / "keys" / "signing.key").chmod(0o644)
    code, out, _ = cli("check", home / "p2" / "member.toml")
    assert code == 3
    assert "member.keys: " in out
    assert "chmod 600" in out


def test_keys_that_the_roster_does_not_know_are_told(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    Identity.generate("p3").save(home / "p3" / "keys", force=True)
    code, out, _ = cli("check", home / "p3" / "member.toml")
    assert code == 3
    assert "the roster has other keys for p3" in out


def test_an_exported_model_is_held_against_its_digest(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    (home / "p1" / "m.pt2").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    exported = 'exported = "m.pt2"\nsha256 = "{}"'
    file = _change(home / "p1" / "member.toml", 'factory = "model:load"', exported.format("0" * 64))
    code, out, _ = cli("check", file)
    assert code == 3
    assert f"{file}:{_line(file, 'sha256')}: model.sha256: " in out
    assert digest in out
    _change(file, "0" * 64, digest)
    assert cli("check", file)[0] == 0


def test_members_with_the_same_keys_are_told(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    file = home / "federation.toml"
    # The first one is the federation's own.
    keys = [line for line in file.read_text().split("\n") if line.startswith("signing_key")][1:]
    _change(file, keys[1], keys[0])
    code, out, _ = cli("check", file)
    assert code == 3
    assert "members[1].signing_key: p2 has the same key as p1" in out


def test_a_damaged_public_key_is_told(cli: Callable[..., tuple[int, str, str]], home: Path) -> None:
    cli("keygen", "p9", "--dir", home)
    text = (home / "p9.card.toml").read_text()
    start = text.index('sealing_key = "') + len('sealing_key = "')
    (home / "p9.card.toml").write_text(text[:start] + "/" * 800 + text[start + 800 :])
    code, out, _ = cli("check", home / "p9.card.toml")
    assert code == 3
    assert f"{home}/p9.card.toml:4: sealing_key: the card of p9: sealing_key is damaged" in out


def test_json_says_the_same(cli: Callable[..., tuple[int, str, str]], home: Path) -> None:
    right, wrong = home / "p1" / "member.toml", home / "p2" / "member.toml"
    _change(wrong, "logits", "odds")
    code, out, _ = cli("check", right, wrong, home / "none.toml", "--json")
    assert code == 3
    told = json.loads(out)
    assert told["ok"] is False
    assert [f["kind"] for f in told["files"]] == ["member", "member", "unreadable"]
    assert told["files"][0]["mistakes"] == []
    assert told["files"][1]["mistakes"] == [
        {
            "file": str(wrong),
            "line": _line(wrong, "gives"),
            "key": "model.gives",
            "message": "write 'probabilities' or 'logits'",
        }
    ]
    assert told["files"][2]["mistakes"][0]["line"] is None
    code, out, _ = cli("check", right, "--json")
    assert code == 0
    assert json.loads(out)["ok"] is True


def test_no_secret_is_ever_printed(
    cli: Callable[..., tuple[int, str, str]], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = home / "p1" / "member.toml"
    secret = (home / "p1" / "keys" / "signing.key").read_text().split('secret = "')[1][:40]
    _change(file, "[kafka]\n", '[kafka]\nsasl.password = "open-sesame"\nsasl.usrname = "x"\n')
    _change(home / "p1" / "keys" / "signing.key", 'kind = "', 'kind = "x')
    code, out, err = cli("check", file)
    assert code == 3
    shown = out + err + caplog.text + cli("check", file, "--json")[1]
    assert "this key file is damaged" in shown
    assert "open-sesame" not in shown
    assert secret not in shown
