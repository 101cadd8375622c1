from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget, Spent

ONE = Charge.at_least(Unit.NANO_EPSILON, 0.1)
LIMIT = Charge.at_most(Unit.NANO_EPSILON, 0.3)
BLOCK = ONE.times(256)


def epsilon(amount: int) -> Charge:
    return Charge(Unit.NANO_EPSILON, amount)


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


def test_a_refusal_changes_nothing(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
        before = path.read_bytes()
        for _ in range(5):
            assert isinstance(budget.spend("alice", ONE.times(3)), Refusal)
        assert path.read_bytes() == before
        assert isinstance(budget.spend("alice", ONE.times(2)), Spent)


def test_reading_changes_nothing(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
        before = path.read_bytes()
        assert budget.accounts() == budget.accounts()
        assert path.read_bytes() == before
        assert "bob" not in budget.accounts()


def test_the_charge_is_on_disk_before_spend_returns(path: Path) -> None:
    budget = Budget(path, LIMIT, BLOCK)
    budget.spend("alice", ONE)
    assert Budget(path, LIMIT, BLOCK).accounts()["alice"].at_most == ONE


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["alice", "bob"]), st.integers(1, 40), st.booleans()),
        max_size=25,
    ),
    block=st.integers(1, 50),
)
def test_an_answer_is_paid_exactly_when_the_limit_covers_it(
    steps: list[tuple[str, int, bool]], block: int
) -> None:
    spent = {"alice": 0, "bob": 0}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger"
        budget = Budget(path, epsilon(150), epsilon(block))
        for client, amount, restart in steps:
            if restart:
                budget.close()
                budget = Budget(path, epsilon(150), epsilon(block))
            answer = budget.spend(client, epsilon(amount))
            assert isinstance(answer, Spent) == (spent[client] + amount <= 150)
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
    limit = ONE.times(1_000)
    with Budget(path, limit, BLOCK) as one, Budget(path, limit, BLOCK) as other:
        for _ in range(3):
            one.spend("alice", ONE)
        other.spend("alice", ONE.times(500))
        answer = one.spend("alice", ONE)
        assert isinstance(answer, Spent)
        assert answer.total.amount >= ONE.times(504).amount


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
            writes.add((path.stat().st_ino, path.stat().st_mtime_ns))
    assert len(writes) < 25


def test_a_ledger_of_another_unit_is_not_reset(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
    before = path.read_bytes()
    rho = Charge(Unit.NANO_RHO, 5)
    with pytest.raises(ConfigError, match="counts nano_epsilon"):
        Budget(path, rho, rho)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"v":2}', b'{"v":1,"unit":"nano_epsilon","clients":{"alice":{"reserved":-1}}}'],
)
def test_a_broken_ledger_is_an_error_and_not_a_new_budget(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ledger.*restore"):
        Budget(path, LIMIT, BLOCK)
    assert path.read_bytes() == content


def test_a_ledger_deleted_under_way_is_an_error_and_not_a_new_budget(path: Path) -> None:
    budget = Budget(path, LIMIT, BLOCK)
    budget.spend("alice", ONE)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be used"):
        budget.spend("alice", ONE)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Budget(tmp_path / "nowhere" / "ledger", LIMIT, BLOCK)


def test_a_free_answer_or_one_in_another_unit_is_refused(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        for cost in (epsilon(0), Charge(Unit.NANO_RHO, 1)):
            with pytest.raises(ConfigError, match="same mechanism"):
                budget.spend("alice", cost)


def test_the_ledger_is_readable_by_its_owner_only(path: Path) -> None:
    with Budget(path, LIMIT, BLOCK) as budget:
        budget.spend("alice", ONE)
    assert path.stat().st_mode & 0o077 == 0
