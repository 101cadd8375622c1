from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.clock import ManualClock
from fi_stream.errors import ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget, Spent
from fi_stream.privacy.ledger import Grant, Ledger, read
from fi_stream.privacy.store import PATIENCE, connect

ONE = Charge.at_least(Unit.NANO_EPSILON, 0.1)
LIMIT = Charge.at_most(Unit.NANO_EPSILON, 0.3)
BLOCK = ONE.times(256)


def epsilon(amount: int) -> Charge:
    return Charge(Unit.NANO_EPSILON, amount)


def stored(path: Path) -> dict[str, str]:
    """The digest of each file of a store: itself, and whatever SQLite keeps beside it."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.parent.iterdir())
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def test_three_answers_of_a_tenth_fit_three_tenths_and_the_fourth_does_not(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        answers = [budget.spend("alice", ONE) for _ in range(4)]
    assert [type(answer) for answer in answers] == [Spent, Spent, Spent, Refusal]
    third, fourth = answers[2:]
    assert isinstance(third, Spent)
    assert third.total == LIMIT
    assert isinstance(fourth, Refusal)
    assert fourth.reason is Reason.OVER_BUDGET


def test_each_client_has_its_own_budget(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        for _ in range(3):
            budget.spend("alice", ONE)
        assert isinstance(budget.spend("bob", ONE), Spent)


def test_a_restart_gives_nothing_back(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE.times(2))
    with Budget(path, LIMIT, BLOCK) as budget:
        assert isinstance(budget.spend("alice", ONE), Spent)
        assert isinstance(budget.spend("alice", ONE), Refusal)


def test_a_refusal_leaves_the_store_as_it_is_to_the_byte(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK, ONE.times(2)) as budget:
        budget.spend("alice", ONE)
        before = stored(path)
        for _ in range(5):
            assert isinstance(budget.spend("alice", ONE.times(3)), Refusal)
            assert isinstance(budget.spend("bob", ONE.times(2)), Refusal)
            assert isinstance(budget.spend("carol", ONE.times(4)), Refusal)
        assert stored(path) == before
        assert isinstance(budget.spend("alice", ONE), Spent)
        assert stored(path) != before


def test_reading_changes_nothing(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
        before = stored(path)
        assert budget.accounts() == budget.accounts()
        assert read(path) == read(path)
        assert read(path).lines["alice"].reserved == ONE.amount
        assert stored(path) == before
        assert "bob" not in budget.accounts()


def test_what_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(ConfigError, match="no ledger"):
        read(path)
    assert stored(path) == {}


def test_the_charge_is_on_disk_before_spend_returns(path: Path) -> None:
    budget = Budget(path, LIMIT, BLOCK)
    budget.spend("alice", ONE)
    assert Budget(path, LIMIT, BLOCK).accounts()["alice"].at_most == ONE


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["alice", "bob"]), st.integers(1, 40), st.booleans()),
        max_size=25,
    ),
    block=st.integers(1, 50),
    together=st.none() | st.integers(100, 320),
)
def test_an_answer_is_paid_exactly_when_the_limits_cover_it(
    steps: list[tuple[str, int, bool]], block: int, together: int | None
) -> None:
    spent = {"alice": 0, "bob": 0}
    most = 300 if together is None else together
    limit_all = None if together is None else epsilon(together)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger"
        budget = Budget(path, epsilon(150), epsilon(block), limit_all)
        for client, amount, restart in steps:
            if restart:
                budget.close()
                budget = Budget(path, epsilon(150), epsilon(block), limit_all)
            answer = budget.spend(client, epsilon(amount))
            fits = spent[client] + amount <= 150 and sum(spent.values()) + amount <= most
            assert isinstance(answer, Spent) == fits
            if isinstance(answer, Spent):
                spent[client] += amount
                assert answer.total.amount == spent[client]
            account = budget.accounts().get(client)
            if account is not None:
                low, high = account.at_least.amount, account.at_most.amount
                assert low <= spent[client] <= high <= 150
                assert high - spent[client] <= block
        budget.close()
        for client, account in budget.accounts().items():
            assert account.at_least.amount == account.at_most.amount == spent[client]


def test_a_total_counts_what_a_replica_spent_meanwhile(path: Path) -> None:
    limit = ONE.times(10_000)
    with Budget(path, limit, BLOCK) as one, Budget(path, limit, BLOCK) as other:
        for _ in range(3):
            one.spend("alice", ONE)
        other.spend("alice", ONE.times(500))
        answer = one.spend("alice", ONE)
        assert isinstance(answer, Spent)
        assert answer.total.amount >= ONE.times(504).amount
        total = answer.total.amount
        for _ in range(3):
            other.spend("alice", ONE.times(1_000))  # more than it had set aside
            with one.at_once():
                answers = [one.spend("alice", ONE) for _ in range(3)]
            totals = [each.total.amount for each in answers if isinstance(each, Spent)]
            assert totals[0] >= total + ONE.times(700).amount
            total = totals[2]


def test_threads_share_one_budget_exactly(path: Path) -> None:
    with Budget(path, epsilon(500), epsilon(64)) as budget:

        def paid(_: int) -> bool:
            return isinstance(budget.spend("alice", epsilon(1)), Spent)

        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(paid, range(600)))
    assert sum(answers) == 500
    assert budget.accounts()["alice"].at_most == epsilon(500)


def test_few_answers_of_many_write_to_the_disk(path: Path) -> None:
    writes = set()
    with Budget(path, epsilon(10**9), epsilon(256)) as budget:
        for _ in range(2_000):
            budget.spend("alice", epsilon(1))
            writes.add(hashlib.sha256(path.read_bytes()).digest())
    assert len(writes) < 25


def test_a_ledger_of_another_unit_is_not_reset(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
    before = path.read_bytes()
    rho = Charge(Unit.NANO_RHO, 5)
    with pytest.raises(ConfigError, match="counts nano_epsilon"):
        Budget(path, rho, rho)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"SQLite format 3\0" + bytes(4080)])
def test_a_broken_ledger_is_an_error_and_not_a_new_budget(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for use in (lambda: Budget(path, LIMIT, BLOCK), lambda: read(path)):
        with pytest.raises(ConfigError, match=r"ledger.*restore"):
            use()
    assert path.read_bytes() == content


def test_a_ledger_of_a_later_version_is_an_error(path: Path) -> None:
    Budget(path, LIMIT, BLOCK).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigError, match="upgrade"):
        Budget(path, LIMIT, BLOCK)


def test_a_ledger_deleted_or_replaced_under_way_is_an_error_and_not_a_new_budget(
    path: Path,
) -> None:
    budget = Budget(path, LIMIT, BLOCK)
    budget.spend("alice", ONE)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(ConfigError, match="cannot be used"):
        budget.spend("alice", ONE)
    Budget(path, LIMIT, BLOCK).close()
    with pytest.raises(ConfigError, match="another file"):
        budget.spend("alice", ONE)


def test_nothing_is_given_while_another_process_has_locked_the_ledger(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget, closing(sqlite3.connect(path)) as other:
        budget.spend("alice", ONE)
        other.execute("BEGIN EXCLUSIVE")
        waited = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(ConfigError, match="locked"):
                budget.spend("alice", ONE)
            waited.append(time.monotonic() - began)
        assert waited[0] >= PATIENCE  # a replica's transaction would have ended by then
        assert max(waited[1:]) < PATIENCE / 2  # so the answers of a pass do not wait one by one
        other.rollback()
        assert isinstance(budget.spend("alice", ONE), Spent)
        assert isinstance(budget.spend("alice", ONE), Spent)
        assert isinstance(budget.spend("alice", ONE), Refusal)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Budget(tmp_path / "nowhere" / "ledger", LIMIT, BLOCK)


def test_a_free_answer_or_one_in_another_unit_is_refused(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        for cost in (epsilon(0), Charge(Unit.NANO_RHO, 1)):
            with pytest.raises(ConfigError, match="same mechanism"):
                budget.spend("alice", cost)


def test_a_million_charges_of_nearly_nothing_are_counted_each(path: Path) -> None:
    nearly_nothing = Charge.at_least(Unit.NANO_EPSILON, 1e-300)
    assert f"{nearly_nothing.value:.3f}" == "0.000"
    million = 1_000_000
    with Budget(path, epsilon(million), epsilon(1_000)) as budget:
        with budget.at_once():
            for _ in range(million - 1):
                budget.spend("alice", nearly_nothing)
        last = budget.spend("alice", nearly_nothing)
        assert isinstance(last, Spent)
        assert last.total == epsilon(million)
        assert isinstance(budget.spend("alice", nearly_nothing), Refusal)


def test_clients_that_pool_what_they_learnt_stay_within_the_budget_of_all(path: Path) -> None:
    clients = [f"client-{number}" for number in range(20)]
    with Budget(path, epsilon(100), epsilon(16), epsilon(250)) as budget:
        answers = [budget.spend(client, epsilon(1)) for _ in range(100) for client in clients]
    assert sum(isinstance(answer, Spent) for answer in answers) == 250
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {answer.reason for answer in refused} == {Reason.OVER_BUDGET}
    assert "the budget of all clients" in refused[-1].detail
    with Budget(path, epsilon(100), epsilon(16), epsilon(250)) as budget:
        assert isinstance(budget.spend("somebody-new", epsilon(1)), Refusal)


def test_replicas_share_the_budget_of_all_clients(path: Path) -> None:
    with (
        Budget(path, epsilon(100), epsilon(16), epsilon(150)) as one,
        Budget(path, epsilon(100), epsilon(16), epsilon(150)) as other,
    ):
        given = 0
        for _ in range(100):
            given += isinstance(one.spend("alice", epsilon(1)), Spent)
            given += isinstance(other.spend("bob", epsilon(1)), Spent)
        assert 150 - 16 <= given <= 150  # at the end one may hold what the other lacks
    assert sum(line.reserved for line in read(path).lines.values()) == given


def test_a_grant_raises_the_limit_of_one_client_in_what_runs_already(path: Path) -> None:
    clock = ManualClock()
    with Budget(path, LIMIT, BLOCK) as budget:
        for _ in range(3):
            budget.spend("alice", ONE)
            budget.spend("bob", ONE)
        ledger = Ledger(path, Unit.NANO_EPSILON, clock)
        ledger.grant("alice", ONE.amount, "0.1", "root@here", "ticket 7")
        ledger.close()
        assert isinstance(budget.spend("alice", ONE), Spent)
        assert isinstance(budget.spend("alice", ONE), Refusal)
        assert isinstance(budget.spend("bob", ONE), Refusal)
        account = budget.accounts()["alice"]
        assert (account.granted, account.limit) == (ONE, epsilon(LIMIT.amount + ONE.amount))
    [grant] = read(path).grants
    assert grant == Grant(clock.wall(), "alice", ONE.amount, "0.1", "root@here", "ticket 7")


@pytest.mark.parametrize("amount", [0, -1, 2**62])
def test_a_grant_of_nothing_or_beyond_all_counting_is_refused(path: Path, amount: int) -> None:
    ledger = Ledger(path, Unit.NANO_EPSILON)
    before = stored(path)
    with pytest.raises(ConfigError, match="give more than 0"):
        ledger.grant("alice", amount, "?", "root@here")
    ledger.close()
    assert stored(path) == before


def test_the_history_of_a_day_is_what_was_set_aside_on_it(path: Path) -> None:
    clock = ManualClock(millis=1_700_000_000_000)
    budget = Budget(path, epsilon(1_000), epsilon(64), clock=clock)
    for _ in range(10):
        budget.spend("alice", epsilon(1))
    clock.advance(86_400_000)
    for _ in range(10):
        budget.spend("alice", epsilon(1))
    budget.close()
    first, second = read(path).days
    assert (first.day, second.day) == ("2023-11-14", "2023-11-15")
    assert first.amount + second.amount == 20
    assert first.amount >= 10


def test_what_a_process_left_half_written_is_taken_back(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, path], check=False, timeout=30)
    assert path.with_name("ledger-journal").stat().st_size > 0
    assert read(path).lines["alice"].reserved == ONE.amount
    with Budget(path, LIMIT, BLOCK) as budget:
        answers = [budget.spend("alice", ONE) for _ in range(3)]
    assert [type(answer) for answer in answers] == [Spent, Spent, Refusal]


HALF_WRITTEN = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE clients SET reserved = 0")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_given_when_the_disk_takes_no_more(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], check=True, capture_output=True, text=True, timeout=30
    )
    assert "cannot be used" in done.stdout
    assert read(path).lines["alice"].reserved == ONE.amount


FULL = """
import resource, signal, sys
from pathlib import Path
from fi_stream.clock import ManualClock
from fi_stream.errors import ConfigError
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
one = Charge.at_least(Unit.NANO_EPSILON, 0.1)
budget = Budget(Path(sys.argv[1]), one.times(10), one.times(2))
budget.spend("alice", one)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    print(budget.spend("alice", one))
except ConfigError as error:
    print(error)
"""


def test_a_commit_is_on_the_disk_with_its_directory(path: Path) -> None:
    Budget(path, LIMIT, BLOCK).close()
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchall() == [(EXTRA,)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]


EXTRA = 3


def test_the_ledger_is_readable_by_its_owner_only(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
    assert path.stat().st_mode & 0o077 == 0
