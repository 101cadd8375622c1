"""`member.toml`: paths, Kafka's names, sections that contradict themselves, and who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fi_stream.errors import ConfigError
from fi_stream.federation.files import load_as, load_member
from fi_stream.federation.member import Gives, Mechanism
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from pathlib import Path


def _change(home: Path, *changes: tuple[str, str]) -> Path:
    file = home / "member.toml"
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


def test_paths_are_read_from_the_directory_of_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    member = load_member(f"{home.name}/member.toml")
    assert member.member.federation == home / "federation.toml"
    assert member.member.keys == home / "keys" / "p1"
    assert member.directory == home
    assert member.privacy is not None
    assert member.privacy.ledger == home / "budget.ledger"


def test_absolute_paths_stay(home: Path) -> None:
    member = load_member(_change(home, ('"keys/p1"', '"/etc/keys"')))
    assert str(member.member.keys) == "/etc/keys"


def test_kafka_names_may_be_quoted_or_not_and_its_paths_are_resolved(home: Path) -> None:
    file = _change(home, ("[kafka]\n", '[kafka]\nssl.ca.location = "ca.pem"\n'))
    assert load_member(file).kafka == {
        "ssl.ca.location": str(home / "ca.pem"),
        "bootstrap.servers": "127.0.0.1:9092",
        "sasl.password": "open-sesame",
    }


def test_the_sections_hold_what_was_written(home: Path) -> None:
    member = load_member(home / "member.toml")
    assert member.id == "p1"
    assert member.model is not None
    assert (member.model.factory, member.model.gives) == ("model:load", Gives.LOGITS)
    assert member.privacy is not None
    assert member.privacy.mechanism is Mechanism.GAUSSIAN
    assert (member.privacy.epsilon, member.privacy.delta) == (4.0, 1e-6)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[member]\n", "[member\n", 1, "is not valid TOML"),
        ('id = "p1"\n', "", 1, "member.id: is missing"),
        ('keys = "keys/p1"\n', "", 1, "member.keys: is missing"),
        ('keys = "keys/p1"\n', "keys = 5\n", 4, "member.keys: "),
        ('id = "p1"', 'id = "p1"\nrole = "boss"', 3, "member.role: write 'client'"),
        ("[model]", "[modle]", 10, "modle: is not a key of ours; did you mean `model`"),
        ("model:load", "model.load", 11, 'model.factory: write "module:callable"'),
        (
            'gives = "logits"',
            'gives = "odds"',
            12,
            "model.gives: write 'probabilities' or 'logits'",
        ),
        ('gives = "logits"\n', "", 10, "model.gives: is missing"),
        ('factory = "model:load"', "", 10, "model: no source given; keep one of"),
        ('"model:load"', '"model:load"\nonnx = "m.onnx"', 10, "model: factory and onnx given"),
        ('factory = "model:load"', 'exported = "m.pt2"', 10, "model.sha256: an exported model"),
        ('"model:load"', f'"model:load"\nsha256 = "{"0" * 64}"', 12, "model.sha256: pins an expor"),
        ('"model:load"', '"model:load"\nsha256 = "12"', 12, "model.sha256: write the 64 hex"),
        ('"model:load"', '"model:load"\nthreads = 0', 12, "model.threads: should be greater"),
        ('"gaussian"', '"laplace"', 15, "privacy.mechanism: write 'none', 'randomised_response'"),
        ('"gaussian"', '"none"', 16, "privacy.epsilon: means nothing to mechanism 'none'"),
        ('"gaussian"', '"randomised_response"', 17, "privacy.delta: means nothing to"),
        ("delta = 1e-6\n", "", 14, "privacy.delta: is missing; mechanism 'gaussian' needs it"),
        ('ledger = "budget.ledger"\n', "", 14, "privacy.ledger: is missing"),
        ("epsilon = 4.0", "epsilon = 0", 16, "privacy.epsilon: should be greater"),
        ("epsilon = 4.0", "epsilon = inf", 16, "privacy.epsilon: should be less"),
        ("epsilon = 4.0", "epsilon = nan", 16, "privacy.epsilon: should be"),
        ("delta = 1e-6", "delta = 0.5", 17, "privacy.delta: should be less"),
        ("budget = 100.0", "budget = -1", 18, "privacy.budget: should be greater"),
        ("budget = 100.0", "budget = nan", 18, "privacy.budget: should be"),
        ("budget = 100.0", "budget = 3.9", 18, "privacy.budget: 3.9 does not pay for one row"),
        ("budget = 100.0", "budget = 100.0\nbudget_all = 99", 19, "privacy.budget_all: 99 for all"),
        (
            'mechanism = "gaussian"\nepsilon = 4.0\ndelta = 1e-6\nbudget = 100.0',
            'mechanism = "none"\nbudget_all = 99',
            16,
            "privacy.budget_all: means nothing to mechanism 'none'",
        ),
        ("[privacy]", "[limits]\nin_flight = 0\n[privacy]", 15, "limits.in_flight: should be"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(
    home: Path, old: str, new: str, line: int, said: str
) -> None:
    file = _change(home, (old, new))
    with pytest.raises(ConfigError) as caught:
        load_member(file)
    assert f"{file}:{line}: {said}" in str(caught.value)


def test_a_password_shows_in_no_text_and_no_error(home: Path) -> None:
    member = load_member(home / "member.toml")
    assert "open-sesame" not in f"{member!r} {member} {member.kafka.keys()}"
    for spoilt in ('epsilon = "open-sesame"', "epsilon = open-sesame", 'open-sesame" = 3'):
        file = _change(home, ("epsilon = 4.0", spoilt))
        with pytest.raises(ConfigError) as caught:
            load_member(file)
        assert "open-sesame" not in str(caught.value)
        assert caught.value.__cause__ is None
        _change(home, (spoilt, "epsilon = 4.0"))


def test_a_member_plays_the_roles_of_the_roster_alone(home: Path) -> None:
    member, federation = load_as(Role.PARTICIPANT, home / "member.toml")
    assert member.id in federation.participants
    with pytest.raises(ConfigError, match=r"member\.role: p1 is no aggregator in the roster"):
        load_as(Role.AGGREGATOR, home / "member.toml")


def test_a_role_written_down_is_held_against_the_roster(home: Path) -> None:
    file = _change(home, ('id = "p1"', 'id = "p1"\nrole = "client"'))
    with pytest.raises(ConfigError, match=r"member\.toml:3: member\.role: p1 is no client"):
        load_as(Role.PARTICIPANT, file)


def test_an_unknown_member_hears_who_was_probably_meant(home: Path) -> None:
    file = _change(home, ('id = "p1"', 'id = "askr"'))
    with pytest.raises(ConfigError, match=r"member\.toml:2: member\.id: .*did you mean `asker`"):
        load_as(Role.CLIENT, file)


def test_only_a_participant_needs_model_and_privacy(home: Path) -> None:
    file = home / "member.toml"
    file.write_text(file.read_text().partition("[model]")[0])
    with pytest.raises(ConfigError) as caught:
        load_as(Role.PARTICIPANT, file)
    assert "model: is missing" in str(caught.value)
    assert "privacy: is missing" in str(caught.value)
    _change(home, ('id = "p1"', 'id = "asker"'))
    load_as(Role.CLIENT, file)


def test_a_missing_federation_is_named(home: Path) -> None:
    file = _change(home, ('"federation.toml"', '"elsewhere.toml"'))
    with pytest.raises(ConfigError, match=r"elsewhere\.toml: there is no such file"):
        load_as(Role.PARTICIPANT, file)
