"""`fi-stream roster`: the next version made, published and listed, and what is wrong said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from stage import everything_logged

from fi_stream.federation.files import card_toml, load_federation
from fi_stream.federation.roster import Role
from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, cli: Cli) -> Iterator[Path]:
    """A federation of three participants, on a broker that runs."""
    with everything_logged(), EmbeddedBroker() as broker:
        cli("init", tmp_path / "home", "--bootstrap", broker.bootstrap)
        yield tmp_path / "home"


def publish(cli: Cli, home: Path, *files: Path) -> tuple[int, str, str]:
    member, key = home / "client" / "member.toml", home / "roster-key"
    return cli("roster", "publish", *files, "--key", key, "--member", member, "--in", "1")


def test_each_verb_makes_the_next_version(cli: Cli, home: Path) -> None:
    cli("keygen", "p4", "--dir", home)
    first, card = home / "federation.toml", home / "p4.card.toml"
    files = [first, *(home / f"federation-{number}.toml" for number in range(2, 6))]
    cli("roster", "add", first, card, "--role", "participant", "--out", files[1])
    cli("roster", "remove", files[1], "p1", "--out", files[2])
    cli("roster", "revoke", files[2], "p2", "--out", files[3])
    cli("keygen", "p4", "--dir", home, "--next")
    following = home / "p4.next.card.toml"
    cli("roster", "rotate", files[3], following, "--revoke", "--out", files[4])
    versions = [load_federation(file) for file in files]
    assert [each.roster.version for each in versions] == [1, 2, 3, 4, 5]
    assert [sorted(each.participants) for each in versions] == [
        ["p1", "p2", "p3"],
        ["p1", "p2", "p3", "p4"],
        ["p2", "p3", "p4"],
        ["p3", "p4"],
        ["p3", "p4"],
    ]
    assert [each.roster.revoked for each in versions[3:]] == [("p2",), ("p2", "p4")]
    assert versions[4].member("p4").roles == {Role.PARTICIPANT}
    assert versions[4].card("p4") != versions[3].card("p4")


def test_what_is_published_is_listed_and_published_once(cli: Cli, home: Path) -> None:
    second = home / "federation-2.toml"
    member = home / "p1" / "member.toml"
    assert "no version is published" in cli("roster", "list", "--member", member)[1]
    cli("roster", "revoke", home / "federation.toml", "p2", "--out", second)
    code, out, _ = publish(cli, home, second)
    assert code == 0
    assert "version 1, in effect from the beginning" in out
    assert "version 2, in effect from 20" in out
    assert "published already" in publish(cli, home, second)[1]
    listed = json.loads(cli("roster", "list", "--member", member, "--json")[1])
    assert [each["version"] for each in listed] == [1, 2]
    assert listed[0]["effective"] == 0 < listed[1]["effective"]
    assert (listed[1]["left"], listed[1]["revoked"]) == (["p2"], ["p2"])
    _, out, _ = cli("tail", "fi.keys", "--config", member, "--from-beginning", "--limit", "2")
    assert "type=roster" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("remove", "federation.toml", "p9", "--out", "x.toml"),
            "p9 is not in version 1 of the roster; known: aggregator",
        ),
        (("remove", "federation.toml", "p1", "--out", "federation.toml"), "is there already"),
        (("remove", "federation.toml", "client", "--out", "x.toml"), "none has the role client"),
        (
            ("add", "federation.toml", "p1.card.toml", "--role", "client", "--out", "x.toml"),
            "p1 is in version 1 already",
        ),
        (("rotate", "federation.toml", "p1.card.toml", "--out", "x.toml"), "has the keys that"),
    ],
)
def test_a_version_that_cannot_be_is_said(
    cli: Cli, home: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    card = load_federation("federation.toml").card("p1")
    (home / "p1.card.toml").write_text(card_toml(card))
    code, _, error = cli("roster", *words)
    assert code == 3
    assert said in error


def test_another_key_publishes_nothing(cli: Cli, home: Path) -> None:
    second = home / "federation-2.toml"
    cli("roster", "remove", home / "federation.toml", "p2", "--out", second)
    cli("roster", "key", home / "other", "--federation", "local")
    member = home / "client" / "member.toml"
    code, _, error = cli("roster", "publish", second, "--key", home / "other", "--member", member)
    assert code == 3
    assert "is not the `signing_key`" in error
    assert "no version is published" in cli("roster", "list", "--member", member)[1]


def test_the_version_in_use_alone_is_not_published(cli: Cli, home: Path) -> None:
    code, _, error = publish(cli, home, home / "federation.toml")
    assert code == 3
    assert "version 1 is the one in use" in error
