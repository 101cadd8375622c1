"""`fi-stream budget`: shown without changing anything, raised for good, and what is wrong said."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging

from fi_stream.events.refusals import Refusal
from fi_stream.federation.files import load_as, load_member
from fi_stream.federation.policy import NoisyMaxPolicy, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.privacy.budget import Spent
from fi_stream.roles.accounts import mechanism_of, priced, terms_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fi_stream.privacy.budget import Budget

    Cli = Callable[..., tuple[int, str, str]]

LABEL = {"mechanism": '"randomised_response"', "epsilon": "0.1", "budget": "0.3"}
SCORES = {"mechanism": '"gaussian"', "epsilon": "2.0", "delta": "1e-6", "budget": "20"}


@pytest.fixture
def home(tmp_path: Path, cli: Cli) -> Path:
    cli("init", tmp_path / "home")
    return tmp_path / "home"


def noised(home: Path, privacy: dict[str, str], form: str = "label") -> Path:
    """p1 with this `[privacy]`, in a federation of that form."""
    federation = home / "federation.toml"
    text = re.sub(r"(?m)^form = .*$", f'form = "{form}"', federation.read_text())
    rules = "hard" if form == "label" else "soft"
    federation.write_text(re.sub(r"(?m)^rules = .*$", f'rules = ["{rules}"]', text))
    file = home / "p1" / "member.toml"
    head = file.read_text().partition("[privacy]")[0]
    lines = "\n".join(f"{key} = {value}" for key, value in privacy.items())
    file.write_text(f'{head}[privacy]\n{lines}\nledger = "budget.ledger"\n')
    return file


def budget_of(file: Path) -> Budget:
    """The budget that the participant itself would use."""
    settings, federation = load_as(Role.PARTICIPANT, file)
    assert settings.privacy is not None
    terms = terms_of(settings.privacy, mechanism_of(settings.privacy, federation))
    assert terms is not None
    return terms.open()


def spend(file: Path, client: str, rows: int) -> list[Spent | Refusal]:
    settings, federation = load_as(Role.PARTICIPANT, file)
    assert settings.privacy is not None
    cost = mechanism_of(settings.privacy, federation).cost
    assert cost is not None
    with budget_of(file) as budget:
        return [budget.spend(client, cost) for _ in range(rows)]


def stored(file: Path) -> dict[str, str]:
    return {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(file.parent.glob("budget.ledger*"))
    }


def shown(cli: Cli, file: Path) -> dict[str, Any]:
    code, out, err = cli("budget", "show", file, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_what_is_shown_is_what_was_charged(cli: Cli, home: Path) -> None:
    file = noised(home, LABEL | {"budget_all": "0.5"})
    assert [type(each) for each in spend(file, "alice", 4)] == [Spent, Spent, Spent, Refusal]
    assert [type(each) for each in spend(file, "bob", 3)] == [Spent, Spent, Refusal]
    found = shown(cli, file)
    assert (found["unit"], found["mechanism"]) == ("nano_epsilon", "randomised_response")
    assert found["row"] == {"amount": 100_000_000, "epsilon": 0.1}
    alice, bob = found["clients"]
    assert (alice["client"], alice["reserved"]["epsilon"], alice["rows_left"]) == ("alice", 0.3, 0)
    assert (bob["client"], bob["answered"]["epsilon"], bob["rows_left"]) == ("bob", 0.2, 1)
    assert found["all"]["reserved"]["amount"] == 500_000_000
    assert found["all"]["rows_left"] == 0


@pytest.mark.parametrize("verb", ["show", "history"])
@pytest.mark.parametrize("as_json", [["--json"], []])
def test_reading_leaves_the_store_as_it_is_to_the_byte(
    cli: Cli, home: Path, verb: str, as_json: list[str]
) -> None:
    file = noised(home, LABEL)
    budget = budget_of(file)
    settings, federation = load_as(Role.PARTICIPANT, file)
    assert settings.privacy is not None
    cost = mechanism_of(settings.privacy, federation).cost
    assert cost is not None
    budget.spend("alice", cost)
    before = stored(file)
    code, out, err = cli("budget", verb, file, *as_json)
    assert (code, err) == (0, "")
    assert "alice" in out
    assert stored(file) == before
    budget.close()


@pytest.mark.parametrize(("privacy", "form"), [(LABEL, "label"), (SCORES, "probabilities")])
def test_a_grant_is_used_up_like_a_budget_and_kept_in_the_history(
    cli: Cli, home: Path, privacy: dict[str, str], form: str
) -> None:
    file = noised(home, privacy, form)
    more = 3 * float(privacy["epsilon"])
    had = sum(isinstance(each, Spent) for each in spend(file, "client", 200))
    before = shown(cli, file)["clients"][0]
    assert before["rows_left"] == 0
    code, out, err = cli(
        "budget", "grant", file, "client", f"{more}", "--note", "ticket [7]", "--json"
    )
    assert (code, err) == (0, "")
    account = json.loads(out)
    assert account["limit"]["epsilon"] == pytest.approx(before["limit"]["epsilon"] + more, rel=1e-6)
    assert account["granted"]["epsilon"] == pytest.approx(more, rel=1e-6)
    assert account == shown(cli, file)["clients"][0]
    left = account["rows_left"]
    assert left >= 3
    answers = spend(file, "client", left + 1)
    assert [isinstance(each, Spent) for each in answers] == [True] * left + [False]
    code, out, _ = cli("budget", "history", file, "--json")
    events = json.loads(out)["history"]
    used, [granted] = (
        [each for each in events if each["what"] == what] for what in ("used", "granted")
    )
    assert sum(each["amount"] for each in used) == (had + left) * shown(cli, file)["row"]["amount"]
    assert (granted["client"], granted["note"]) == ("client", "ticket [7]")
    assert float(granted["epsilon"]) == pytest.approx(more)
    assert "@" in granted["who"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", granted["at"])
    assert "ticket [7]" in cli("budget", "history", file)[1]


def test_people_see_a_table(cli: Cli, home: Path) -> None:
    file = noised(home, LABEL)
    spend(file, "alice", 2)
    code, out, _ = cli("budget", "show", file)
    assert code == 0
    title, alice, together, last = out.splitlines()[:4]
    assert title.split() == ["client", "answered", "reserved", "limit", "granted", "rows", "left"]
    assert alice.split() == ["alice", "0.2", "0.2", "0.3", "0", "1"]
    assert together.split() == ["all", "clients", "0.2", "0.2", "-", "-", "-"]
    assert last.startswith("epsilon, 0.1 a row")
    code, out, _ = cli("budget", "grant", file, "client", "0.1")
    assert (code, out) == (
        0,
        "client may use up epsilon 0.4 now, of which 0 is used: 4 rows are left\n",
    )


def test_what_is_wrong_is_said_with_what_to_do(cli: Cli, home: Path) -> None:
    plain = home / "p1" / "member.toml"
    code, _, err = cli("budget", "show", plain)
    assert code == 3
    assert "charges nothing" in err
    file = noised(home, LABEL)
    code, _, err = cli("budget", "show", file)
    assert code == 3
    assert "no ledger" in err
    assert stored(file) == {}
    assert cli("budget", "grant", file, "client", "1")[0] == 3
    assert stored(file) == {}
    spend(file, "alice", 1)
    before = stored(file)
    code, _, err = cli("budget", "grant", file, "clint", "1")
    assert (code, "did you mean `client`" in err) == (3, True)
    for amount in ("0", "nan", "inf"):
        assert cli("budget", "grant", file, "alice", amount)[0] == 2
    code, _, err = cli("budget", "grant", file, "alice", "1e-12")
    assert (code, "give more than 0" in err) == (3, True)
    assert stored(file) == before
    other = noised(home, SCORES, "probabilities")
    for verb in (("show",), ("history",), ("grant",)):
        words = ("client", "1") if verb == ("grant",) else ()
        code, _, err = cli("budget", *verb, other, *words)
        assert (code, "counts nano_epsilon" in err) == (3, True)
    assert stored(file) == before
    assert cli("budget", "show", home / "client" / "member.toml")[0] == 3


def test_an_aggregator_that_adds_the_noise_has_a_budget_to_show(cli: Cli, tmp_path: Path) -> None:
    policy = {
        "form": "label",
        "rules": ("hard",),
        "noisy_max": NoisyMaxPolicy(epsilon=2.0),
    }
    central = 'mechanism = "noisy_max"\nepsilon = 2.0\nbudget = 6.0\nledger = "budget.ledger"'
    stage = staging.build(tmp_path / "f", "127.0.0.1:1", central=central, policy=policy)
    file = stage.file("agg")
    settings = load_member(file)
    _, noise, privacy = priced(settings, stage.federation)
    terms = terms_of(privacy, noise)
    assert terms is not None
    with terms.open() as budget:
        budget.spend("alice", terms.cost)
    found = shown(cli, file)
    assert found["mechanism"] == "permute_and_flip"
    assert found["clients"][0]["rows_left"] == 2
    code, _, err = cli("budget", "show", stage.file("alice"))
    assert (code, "charges nobody" in err) == (3, True)


def test_under_secagg_alone_a_row_costs_what_the_policy_says(cli: Cli, tmp_path: Path) -> None:
    policy = {
        "protections": ("secagg",),
        "rules": ("soft",),
        "secagg": SecaggPolicy(k_min=3, epsilon=1.0, delta=1e-6),
    }
    privacy = "\n".join(f"{key} = {value}" for key, value in SCORES.items())
    privacy += '\nledger = "budget.ledger"'
    stage = staging.build(tmp_path / "f", "127.0.0.1:1", privacy=privacy, policy=policy)
    budget_of(stage.file("p1")).close()
    assert shown(cli, stage.file("p1"))["row"]["epsilon"] == pytest.approx(1.0, rel=1e-3)
