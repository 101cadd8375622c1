"""However they ask, clients get no more noised rows of a participant than its budgets pay for.

What counts is what the broker has: whoever could open every response would have so many rows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from stage import noise, rows

from fi_stream import connect
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.refusals import Refusal
from fi_stream.federation.changes import without_member
from fi_stream.federation.files import federation_toml, load_as
from fi_stream.federation.policy import Limits, Protection, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.privacy.ledger import read
from fi_stream.privacy.sums import SumNoise
from fi_stream.roles.accounts import mechanism_of, terms_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
LABELS = {"form": "label", "rules": ("hard",)}
PAID = 6
PRIVACY = noise(2.0, 2.0 * PAID)
TOGETHER = f"{noise(2.0, 2.0 * PAID)}\nbudget_all = {2.0 * (PAID + 2)}"


SCORES = (
    'mechanism = "gaussian"\nepsilon = 2.0\ndelta = 1e-6\nbudget = 6.0\nledger = "budget.ledger"'
)


async def given(stage: Stage, member: str, client: str | None = None) -> int:
    """The rows of all different answers of a participant, to one client or to all."""
    values = set()
    async with stage.wire("bob", Role.CLIENT, announce=False) as wire:
        for record in await wire.kept("fi.responses"):
            decoded = decode_envelope(record.value)
            assert not isinstance(decoded, Refusal)
            header = decoded[1]
            assert header.reply is not None
            if (header.task, header.sender) != (stage.federation.task.hash, member):
                continue
            if header.reply.kind == "answer" and client in {None, header.reply.client}:
                values.add((record.value, header.ask.rows))
    return sum(count for _, count in values)


async def test_the_same_query_again_and_again_is_charged_again_and_again(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=PRIVACY, policy=LABELS)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        outcomes = [(await client.ask(rows(1))).outcome for _ in range(PAID + 3)]
    assert outcomes == ["complete"] * PAID + ["no_quorum"] * 3
    for member in EVERYONE[1:]:
        assert await given(stage, member) == PAID


async def test_the_same_id_again_and_again_gives_the_same_noise_and_is_charged_once(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=PRIVACY, policy=LABELS)
    async with stage.running(*EVERYONE):
        async with connect(stage.file("alice")) as client:
            first = await client.ask(rows(1))
        again = []
        for _ in range(PAID + 3):
            async with connect(stage.file("alice")) as client:
                again.append(await client.ask(rows(1), query_id=first.query_id))
    assert {tuple(each.labels) for each in again} == {tuple(first.labels)}
    assert {each.guarantee.epsilon_total for each in again} == {2.0}
    assert await given(stage, "p1") == 1


async def test_one_row_less_each_time_is_charged_by_its_rows(build: Callable[..., Stage]) -> None:
    stage = build(privacy=PRIVACY, policy=LABELS)
    drawn = rows(4)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        for count in (4, 3, 2, 1):  # 3 and 1 are not paid for any more
            await client.ask(drawn[:count])
    assert await given(stage, "p1") == PAID


async def test_other_sets_of_participants_draw_on_the_same_budget(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=PRIVACY, policy=LABELS)
    federation = stage.directory / "federation.toml"
    every = federation.read_text()
    without_p3 = federation_toml(without_member(stage.federation, "p3", revoked=False))
    async with connect(stage.file("alice")) as client, stage.running(*EVERYONE):
        for _ in range(PAID // 2):
            await client.ask(rows(1))
    for text, members in (
        (without_p3, EVERYONE[:3]),
        (every, EVERYONE),
        (without_p3, EVERYONE[:3]),
    ):
        federation.write_text(text)
        async with stage.running(*members), connect(stage.file("alice")) as client:
            for _ in range(PAID // 2):
                await client.ask(rows(1))
    assert await given(stage, "p1") == PAID
    assert await given(stage, "p3") == PAID


async def test_every_protection_draws_on_the_same_budget(build: Callable[..., Stage]) -> None:
    policy = {
        "protections": tuple(Protection),
        "rules": ("soft",),
        "secagg": SecaggPolicy(k_min=3, epsilon=2.0, delta=1e-6),
        "limits": Limits(hop_ms=300),
    }
    stage = build(privacy=SCORES, policy=policy)
    async with stage.running(*EVERYONE, "helper"), connect(stage.file("alice")) as client:
        outcomes = []
        for _ in range(4 * PAID):
            for protection in Protection:
                result = await client.ask(rows(1), deadline=5.0, protection=protection)
                outcomes.append(result.outcome)
            if outcomes[-3:] == ["no_quorum"] * 3:
                break
    assert outcomes[-3:] == ["no_quorum"] * 3
    settings, federation = load_as(Role.PARTICIPANT, stage.file("p1"))
    assert settings.privacy is not None
    noise_of_one = mechanism_of(settings.privacy, federation)
    terms = terms_of(settings.privacy, noise_of_one)
    assert terms is not None
    of_a_sum = SumNoise(federation.policy.secagg).cost
    line = read(stage.directory / "p1" / "budget.ledger").lines["alice"]
    sums = outcomes[2::3].count("complete")
    others = len([each for each in outcomes if each == "complete"]) - sums
    assert (sums + others) == await given(stage, "p1")
    spent = sums * of_a_sum.amount + others * terms.cost.amount
    assert line.answered == line.reserved == spent <= terms.limit.amount


async def test_clients_that_pool_what_they_learn_have_the_budget_of_all(
    build: Callable[..., Stage],
) -> None:
    stage = build(privacy=TOGETHER, policy=LABELS)
    async with (
        connect(stage.file("alice")) as alice,
        connect(stage.file("bob")) as bob,
        stage.running(*EVERYONE),
    ):
        for _ in range(PAID + 1):
            await asyncio.gather(alice.ask(rows(1)), bob.ask(rows(1)))
    for member in EVERYONE[1:]:
        assert await given(stage, member) == PAID + 2
        assert await given(stage, member, "alice") <= PAID


@pytest.mark.kafka
async def test_replicas_of_a_participant_give_no_more_than_one(on_apache: Stage) -> None:
    stage = on_apache
    for member in EVERYONE[1:]:
        file = stage.file(member)
        file.write_text(file.read_text().replace('mechanism = "none"', TOGETHER))
    federation = stage.directory / "federation.toml"
    text = federation.read_text().replace('form = "probabilities"', 'form = "label"')
    lines = ['rules = ["hard"]' if line.startswith("rules") else line for line in text.splitlines()]
    federation.write_text("\n".join(lines))
    async with stage.running("agg", "p1", "p1", "p2", "p3"):
        for _ in range(PAID):  # each client asks on a partition of its own choice
            async with connect(stage.file("alice")) as alice, connect(stage.file("bob")) as bob:
                asked = (each.ask(rows(1), deadline=10.0) for each in (alice, bob) * 2)
                await asyncio.gather(*asked)
    at_work = {e["member"] for e in stage.events("ready")}
    assert at_work >= {"p1", "p2", "p3"}
    for member in EVERYONE[1:]:
        assert 0 < await given(stage, member) <= PAID + 2
        assert await given(stage, member, "alice") <= PAID
