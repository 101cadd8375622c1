"""Noise and budgets in the running role."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import NO_NOISE, ODD, RAISES, names_of, noise, odd, rows

from fi_stream import connect
from fi_stream.errors import ConfigError
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.refusals import Refusal
from fi_stream.federation.changes import with_keys
from fi_stream.federation.files import federation_toml, load_as
from fi_stream.federation.policy import Limits, NoisyMaxPolicy, Protection, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.models.files import short_hash
from fi_stream.privacy.guarantee import EXAMPLE
from fi_stream.privacy.ledger import read
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.answering import UNNAMED, Answering
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
LABELS = {"form": "label", "rules": ("hard",)}


def ledger_of(stage: Stage, member: str) -> Path:
    return stage.directory / member / "budget.ledger"


def units(stage: Stage, member: str) -> int:
    """What alice used up at most, in billionths of epsilon."""
    return read(ledger_of(stage, member)).lines["alice"].reserved


def stored(stage: Stage, member: str) -> dict[str, bytes]:
    """Every file of a member's store: the ledger, and whatever SQLite keeps beside it."""
    ledger = ledger_of(stage, member)
    files = sorted(ledger.parent.glob(f"{ledger.name}*"))
    return {file.name: hashlib.sha256(file.read_bytes()).digest() for file in files}


async def test_a_result_declares_the_noise_and_what_it_adds_up_to_by_rows(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(2.0, 100.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = (await client.ask(rows(1))).guarantee
        second = (await client.ask(rows(3))).guarantee
    assert first.mechanism == "randomised_response"
    assert first.epsilon_query == pytest.approx(2.0)
    assert first.epsilon_total == pytest.approx(2.0)
    assert second.epsilon_query == pytest.approx(6.0)
    assert second.epsilon_total == pytest.approx(8.0)
    assert first.delta == 0
    assert "epsilon 6 for this query and 8 for all of this client's queries" in second.sentence
    assert "one participant's whole answer" in second.sentence


async def test_the_charge_is_on_disk_before_the_answer_is_out(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(2.0, 100.0), policy=LABELS)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        await client.ask(rows(1))
        assert units(stage, "p1") >= 2_000_000_000
        await running["p1"].kill()
    assert units(stage, "p1") >= 2_000_000_000


async def test_a_spent_budget_is_an_abstain_that_costs_nothing_and_outlives_a_restart(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(8.0, 24.0), policy=LABELS)
    async with connect(stage.file("alice")) as client, connect(stage.file("bob")) as other:
        async with stage.running(*EVERYONE):
            for _ in range(3):
                assert (await client.ask(rows(1))).outcome == "complete"
            used_up = {member: stored(stage, member) for member in EVERYONE[1:]}
            for _ in range(3):
                result = await client.ask(rows(1))
                assert result.outcome == "no_quorum"
                assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
                assert result.guarantee is None
            assert {member: stored(stage, member) for member in EVERYONE[1:]} == used_up
            assert (await other.ask(rows(1))).outcome == "complete"
        async with stage.running(*EVERYONE):
            result = await client.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_more_rows_than_the_rest_of_the_budget_pays_for_are_refused_and_fewer_are_not(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(8.0, 24.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(4))).outcome == "no_quorum"
        assert (await client.ask(rows(3))).outcome == "complete"


async def test_a_ledger_that_cannot_be_used_stops_the_answers_and_not_the_role(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(2.0, 1000.0), policy=LABELS)
    ledger = ledger_of(stage, "p2")
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        before = ledger.read_bytes()
        ledger.write_bytes(b"{")
        result = await client.ask(rows(1))
        assert result.outcome == "complete"
        assert result.missing == {"p2": "overloaded"}
        ledger.write_bytes(before)
        assert (await client.ask(rows(1))).missing == {}
        assert not running["p2"].task.done()
    [said] = stage.events("refused", reason="overloaded")
    assert "the privacy ledger" in said["detail"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("np.full((len(x), 3), np.nan)", "not_finite"),
        ("np.full((len(x), 3), 0.5)", "not_a_prediction"),
        ("np.full((len(x) + 1, 3), 1 / 3)", "wrong_shape"),
        ("[][0]", "model_failed"),
    ],
)
async def test_under_noise_a_model_s_own_abstain_is_an_answer_like_any_other(
    build: Callable[..., Stage], fault: str, reason: str
) -> None:
    stage = build(privacy=noise(2.0, 1000.0), policy=LABELS, models={"p1": f"{ODD}return {fault}"})
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(odd(2))
        assert (result.outcome, result.missing) == ("complete", {})
        assert {one.member for one in result.contributors} == set(EVERYONE[1:])
        assert units(stage, "p1") == units(stage, "p2") == 4_000_000_000
        assert await running["p1"].stop() == {reason: 1}  # its operator sees it


async def test_without_noise_it_is_said(build: Callable[..., Stage]) -> None:
    stage = build(models={"p1": f"{ODD}return np.full((len(x), 3), np.nan)"})
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(odd(1))).missing == {"p1": "not_finite"}


def test_a_model_s_version_under_noise_says_only_when_it_changes(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = build(privacy=noise(2.0, 1000.0), policy=LABELS)
    file = stage.file("p1")
    [model] = file.parent.glob("model_*.py")

    def version(**changes: dict[str, object]) -> str:
        settings, federation = load_as(Role.PARTICIPANT, file)
        sections = {
            name: getattr(settings, name).model_copy(update=u) for name, u in changes.items()
        }
        with Answering(settings.model_copy(update=sections), federation) as answering:
            return answering.version

    first = version()
    assert version() == first
    assert first != short_hash(model.read_bytes())  # which says what file it is
    assert version(privacy={"ledger": tmp_path / "another"}) != first
    assert version(model={"version": "7"}) == "7"
    model.write_text(model.read_text() + "# better\n")
    assert version() != first


async def test_every_response_to_as_many_rows_has_one_length(build: Callable[..., Stage]) -> None:
    privacy = noise(2.0, 12.0) + "\nbudget_all = 16"
    stage = build(privacy=privacy, policy=LABELS, models={"p1": RAISES})
    reasons: set[str | None] = set()
    async with (
        connect(stage.file("alice")) as alice,
        connect(stage.file("bob")) as bob,
        stage.running(*EVERYONE),
    ):
        for client, drawn in ((alice, rows(2)), (alice, odd(2)), (bob, rows(2))):
            reasons |= set((await client.ask(drawn)).missing.values())
        with closing(sqlite3.connect(ledger_of(stage, "p2"))) as other:
            other.execute("BEGIN EXCLUSIVE")
            reasons |= set((await client.ask(rows(2), deadline=4.0)).missing.values())
            other.rollback()
        for client in (alice, bob):
            reasons |= set((await client.ask(rows(2))).missing.values())
        async with stage.wire("alice", Role.CLIENT, announce=False) as wire:
            values = [record.value for record in await wire.kept("fi.responses")]
    assert reasons == {"over_budget", "overloaded"}
    sealed, whole = set(), defaultdict(set)
    for value in values:
        decoded = decode_envelope(value)
        assert not isinstance(decoded, Refusal)
        envelope, header = decoded
        assert header.reply is not None
        sealed.add(len(envelope.sealed))
        whole[header.reply.client, header.reply.kind].add(len(value))
    assert len(sealed) == 1
    # All that differs is in the clear anyhow: how long the client's name is, and the kind's.
    assert {kind for _, kind in whole} == {"answer", "abstain"}
    assert all(len(lengths) == 1 for lengths in whole.values())


@pytest.mark.parametrize("protection", list(Protection))
@pytest.mark.parametrize("noised", [True, False])
async def test_the_length_of_a_response_tells_no_answer_from_an_abstain(
    build: Callable[..., Stage], protection: Protection, noised: bool
) -> None:
    mechanism = {"epsilon": 8.0, "delta": 1e-6}
    policy: dict[str, Any] = {"rules": ("soft",), "protections": (protection,)}
    if protection is Protection.SECAGG:
        policy["secagg"] = SecaggPolicy(k_min=2, **(mechanism if noised else {}))
        policy["limits"] = Limits(hop_ms=300)
    privacy = NO_NOISE
    if noised:  # pays for one query and not for the second
        lines = "".join(f"{key} = {value}\n" for key, value in mechanism.items())
        privacy = f'mechanism = "gaussian"\n{lines}budget = 20.0\nledger = "budget.ledger"'
    stage = build(privacy=privacy, policy=policy, models=dict.fromkeys(("p1", "p2"), RAISES))
    async with (
        connect(stage.file("alice")) as client,
        stage.running(*EVERYONE, *HELPING[protection]),
    ):
        for drawn in (rows(3), odd(3), odd(3)):
            await client.ask(drawn, deadline=5.0)
        async with stage.wire("alice", Role.CLIENT, announce=False) as wire:
            values = [record.value for record in await wire.kept("fi.responses")]
    kinds, sealed = set(), set()
    for value in values:
        decoded = decode_envelope(value)
        assert not isinstance(decoded, Refusal)
        assert decoded[1].reply is not None
        kinds.add(decoded[1].reply.kind)
        sealed.add(len(decoded[0].sealed))
    assert kinds == {"answer", "abstain"}
    assert len(sealed) == 1


HELPING = {Protection.TRUSTED: (), Protection.BLIND: (), Protection.SECAGG: ("helper",)}


async def test_colluding_clients_stay_within_the_budget_of_all(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 24.0) + "\nbudget_all = 32", policy=LABELS)
    async with connect(stage.file("alice")) as alice, connect(stage.file("bob")) as bob:
        async with stage.running(*EVERYONE):
            for client in (alice, bob, alice, bob):
                assert (await client.ask(rows(1))).outcome == "complete"
            for client in (alice, bob):  # each has 8 left of its own
                result = await client.ask(rows(1))
                assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")
        async with stage.running(*EVERYONE):
            result = await bob.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_another_model_does_not_renew_a_budget(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 8.0), policy=LABELS)
    async with connect(stage.file("alice")) as client:
        async with stage.running(*EVERYONE):
            first = await client.ask(rows(1))
            assert first.outcome == "complete"
        for member in EVERYONE[1:]:
            [model] = stage.file(member).parent.glob("model_*.py")
            renamed = model.with_stem(f"{model.stem}_better")
            renamed.write_text(model.read_text() + "# better\n")
            file = stage.file(member)
            file.write_text(file.read_text().replace(f"{model.stem}:", f"{renamed.stem}:"))
        async with stage.running(*EVERYONE):
            result = await client.ask(rows(1))
            assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


async def test_other_keys_of_a_client_do_not_renew_its_budget(build: Callable[..., Stage]) -> None:
    stage = build(privacy=noise(8.0, 8.0), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(1))).outcome == "complete"
    new = Identity.generate("alice")
    shutil.rmtree(stage.file("alice").parent / "keys")
    new.save(stage.file("alice").parent / "keys")
    federation = with_keys(stage.federation, new.card(), revoked=True)
    (stage.directory / "federation.toml").write_text(federation_toml(federation))
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1), deadline=5.0)
        assert result.missing == dict.fromkeys(EVERYONE[1:], "over_budget")


CENTRAL = {"form": "label", "rules": ("hard",), "early_exit": False}


def aggregator_s(epsilon: float, budget: float) -> str:
    return (
        f'mechanism = "noisy_max"\nepsilon = {epsilon}\nbudget = {budget}\nledger = "budget.ledger"'
    )


async def test_an_aggregator_that_adds_the_noise_charges_each_client_and_rejects_at_the_end(
    build: Callable[..., Stage],
) -> None:
    policy = {**CENTRAL, "noisy_max": NoisyMaxPolicy(epsilon=16.0)}
    stage = build(central=aggregator_s(16.0, 64.0), policy=policy)
    drawn = rows(3)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn)
        assert result.outcome == "complete"
        assert result.labels == names_of(drawn)  # a mistake is one in millions
        assert result.decided.scores.max(axis=1).tolist() == [1.0] * 3
        said = result.guarantee
        assert (said.mechanism, said.epsilon_query, said.epsilon_total) == (
            "permute_and_flip",
            48.0,
            48.0,
        )
        assert (said.against, said.all_seeing) == (("client",), ("aggregator",))
        assert units(stage, "agg") >= 48_000_000_000
        assert (await client.ask(rows(1))).outcome == "complete"
        before = ledger_of(stage, "agg").read_bytes()
        refused = await client.ask(rows(1))
        assert (refused.outcome, refused.reason) == ("rejected", "over_budget")
        assert refused.decided is None
        assert refused.guarantee is None
        assert ledger_of(stage, "agg").read_bytes() == before
    assert not ledger_of(stage, "p1").exists()


async def test_a_client_that_the_aggregator_s_noise_protects_from_hears_of_no_fault(
    build: Callable[..., Stage],
) -> None:
    policy = {**CENTRAL, "noisy_max": NoisyMaxPolicy(epsilon=16.0)}
    stage = build(central=aggregator_s(16.0, 64.0), policy=policy, models={"p1": RAISES})
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(odd(1))
        assert (result.outcome, result.missing) == ("complete", {})
        assert await running["p1"].stop() == {"model_failed": 1}


def test_a_model_s_version_under_an_aggregator_s_noise_says_what_its_owner_says_or_nothing(
    build: Callable[..., Stage],
) -> None:
    policy = {**CENTRAL, "noisy_max": NoisyMaxPolicy(epsilon=16.0)}
    stage = build(central=aggregator_s(16.0, 64.0), policy=policy)
    [model] = stage.file("p1").parent.glob("model_*.py")

    def version(given: str | None = None) -> str:
        settings, federation = load_as(Role.PARTICIPANT, stage.file("p1"))
        assert settings.model is not None
        said = settings.model.model_copy(update={"version": given})
        with Answering(settings.model_copy(update={"model": said}), federation) as answering:
            return answering.version

    first = version()
    model.write_text(model.read_text() + "# better\n")
    assert version() == first == UNNAMED
    assert version("7") == "7"


async def test_an_aggregator_without_a_budget_does_not_start_under_a_policy_that_needs_one(
    build: Callable[..., Stage],
) -> None:
    policy = {**CENTRAL, "noisy_max": NoisyMaxPolicy(epsilon=16.0)}
    stage = build(policy=policy)
    with pytest.raises(ConfigError, match=r'mechanism = "noisy_max"'):
        await run_aggregator(stage.file("agg"), asyncio.Event())


SHARDS = "return np.stack([np.eye(3)[x[:, :3].argmax(axis=1)]] * 9 + [np.eye(3)[[0] * len(x)]])"


async def test_models_on_shards_vote_and_an_example_is_what_is_protected(
    build: Callable[..., Stage],
) -> None:
    privacy = noise(8.0, 1000.0).replace("randomised_response", "noisy_max")
    models = dict.fromkeys(EVERYONE[1:], SHARDS)
    stage = build(privacy=privacy, policy=LABELS, models=models)
    drawn = rows(5)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn)
    assert result.labels == names_of(drawn)
    assert result.guarantee.mechanism == "noisy_max"
    assert result.guarantee.epsilon_query == pytest.approx(40.0)
    assert result.guarantee.unit == EXAMPLE


async def test_how_sure_a_participant_is_counts_inside_its_noise(
    build: Callable[..., Stage],
) -> None:
    privacy = noise(16.0, 1000.0) + "\nweight_levels = 4"
    stage = build(privacy=privacy, policy={"form": "label", "rules": ("soft",)})
    row = np.array([[9.0, 0, 0, 0]], dtype=np.float32)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(row)
    assert result.labels == ["cat"]
    assert result.guarantee.epsilon_query == pytest.approx(16.0)


def drawing() -> set[int]:
    """The processes that draw noise for a role of this process."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"fi_stream.privacy.drawing" in command:
                found.add(int(child))
    return found


async def test_noise_that_is_killed_is_started_anew_and_ends_with_its_role(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=noise(8.0, 1e6), policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert (await client.ask(rows(1))).outcome == "complete"
        first = drawing()
        assert len(first) == 3
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        for _ in range(20):
            assert (await client.ask(rows(200))).outcome == "complete"
            await asyncio.sleep(0.05)
        assert len(drawing() - first) == 3
    assert drawing() == set()
    assert {one["code"] for one in stage.events("noise.restarted")} == {-signal.SIGKILL}
