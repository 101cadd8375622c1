"""Members come and go while queries are asked: at one moment for all, and none is lost."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from members import parts
from pages import becomes, port_of, with_port
from rosters import LEAD, asked_all_along, contributors, past, publish
from stage import rows, until

from fi_stream import connect
from fi_stream.errors import ConfigError
from fi_stream.federation.changes import with_keys, with_member, without_member
from fi_stream.federation.files import federation_toml
from fi_stream.federation.roster import Role
from fi_stream.roles import keys
from fi_stream.roles.publishing import publish_rosters, published_rosters
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage


EVERYONE = ("agg", "p1", "p2", "p3")


def newcomer(stage: Stage, name: str, like: str) -> Identity:
    """The files of one more member, with the model and settings of another."""
    shutil.copytree(stage.directory / like, stage.directory / name)
    shutil.rmtree(stage.directory / name / "keys")
    identity = Identity.generate(name)
    identity.save(stage.directory / name / "keys")
    (model,) = (stage.directory / name).glob("model_*.py")
    model.rename(model.with_stem(f"{model.stem}_{name}"))
    file = stage.file(name)
    text = file.read_text().replace(f'"{like}"', f'"{name}"')
    text = text.replace(model.stem, f"{model.stem}_{name}")
    file.write_text(text.replace("../federation.toml", "../federation-2.toml"))
    return identity


async def test_a_member_that_joins_answers_from_the_moment_on(build: Callable[..., Stage]) -> None:
    stage = build()
    card = newcomer(stage, "p4", "p3").card()
    following = with_member(stage.federation, card, [Role.PARTICIPANT])
    (stage.directory / "federation-2.toml").write_text(federation_toml(following))
    stage.federation = following
    async with stage.running(*EVERYONE, "p4"), asked_all_along(stage) as results:
        await past(stage, await publish(stage, following))
    moment = (await published_rosters(stage.file("alice")))[-1].effective
    assert {result.outcome for result in results} == {"complete"}
    old, new = frozenset(EVERYONE[1:]), frozenset((*EVERYONE[1:], "p4"))
    who = contributors(results)
    assert set(who) == {old, new}
    switched = who.index(new)
    assert set(who[switched:]) == {new}, "both versions at once"
    first, last = results[switched], results[switched - 1]
    assert last.ask.created < moment <= first.ask.created


async def test_a_member_that_leaves_finishes_and_ends_by_itself(
    build: Callable[..., Stage],
) -> None:
    stage = build(limits={"max_deadline_ms": 8000, "max_skew_ms": 100})
    following = without_member(stage.federation, "p3", revoked=False)
    async with stage.running(*EVERYONE) as running, asked_all_along(stage) as results:
        moment = await publish(stage, following)
        await past(stage, moment)
        assert not running["p3"].task.done(), "it has queries to finish"
    assert {result.outcome for result in results} == {"complete"}
    assert set(contributors(results)) == {frozenset(("p1", "p2", "p3")), frozenset(("p1", "p2"))}


async def test_a_revoked_member_counts_before_its_moment_and_never_after(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    following = without_member(stage.federation, "p3", revoked=True)
    async with stage.running(*EVERYONE) as running, asked_all_along(stage, 4.0) as results:
        moment = await publish(stage, following)
        await past(stage, moment)
        # Its process is told to go; whoever has its keys goes on, and is not heard.
        async with stage.wire("p3", Role.PARTICIPANT) as thief:
            kept = await thief.kept("fi.responses")
            own = next(each for each in kept if parts(each.value)[1].sender == "p3")
            await thief.put("fi.responses", own.source.number, own.value, own.key)
        await until(running["p3"].task.done)
        await until(lambda: stage.events("refused", reason="revoked"))
    assert stage.events("left", member="p3")
    who = contributors(results)
    assert frozenset(("p1", "p2", "p3")) in who
    after = [each for each in results if each.ask.created > moment]
    assert after
    assert {each.outcome for each in after} == {"complete"}
    assert set(contributors(after)) == {frozenset(("p1", "p2"))}


async def test_keys_rotate_while_queries_are_asked(build: Callable[..., Stage]) -> None:
    stage = build()
    following = stage.federation
    for member in ("p1", "agg", "alice"):
        fresh = Identity.generate(member)
        fresh.save(stage.directory / member / "keys" / "next")
        following = with_keys(following, fresh.card(), revoked=True)
    async with stage.running(*EVERYONE), asked_all_along(stage) as results:
        moment = await publish(stage, following)
        await past(stage, moment)
    assert {result.outcome for result in results} <= {"complete", "partial"}
    after = [result for result in results if result.ask.created > moment]
    assert after
    assert {result.outcome for result in after} == {"complete"}
    assert set(contributors(after)) == {frozenset(("p1", "p2", "p3"))}


async def test_whoever_starts_with_an_old_file_learns_the_roster_from_the_topic(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    following = without_member(stage.federation, "p3", revoked=False)
    moment = await publish(stage, following)
    await past(stage, moment)
    async with stage.running("agg", "p1", "p2"), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1)[0], deadline=5.0)
        assert (result.outcome, set(contributors([result]))) == (
            "complete",
            {frozenset(("p1", "p2"))},
        )


async def test_keys_that_are_not_in_their_place_are_said_and_taken_up_when_they_are(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ANNOUNCE_EVERY", 1.0)  # what could not be opened comes again
    stage = build()
    with_port(stage, "p1")
    fresh = Identity.generate("p1")
    following = with_keys(stage.federation, fresh.card(), revoked=False)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        await past(stage, await publish(stage, following))
        assert len(stage.events("keys.missing")) == 1
        told = await becomes(port_of(stage, "p1"), 503)
        assert any("version 2 of the roster lists other keys of p1" in why for why in told["why"])
        without = await client.ask(rows(1)[0], deadline=2.0)
        assert (without.outcome, without.missing) == ("partial", {"p1": "silent"})
        fresh.save(stage.directory / "p1" / "keys" / "next")
        async with asyncio.timeout(20):
            while (await client.post(rows(1)[0], deadline=0.5)).outcome != "complete":
                pass
        await becomes(port_of(stage, "p1"), 200)


async def test_what_is_published_stays_and_is_read_back(build: Callable[..., Stage]) -> None:
    stage = build()
    following = without_member(stage.federation, "p3", revoked=True)
    await publish(stage, following)
    versions = await published_rosters(stage.file("bob"))
    assert [each.federation for each in versions] == [stage.federation, following]
    assert versions[0].effective == 0
    other = without_member(stage.federation, "p2", revoked=False)
    with pytest.raises(ConfigError, match="version 2 is published already"):
        await publish(stage, other)


async def test_only_members_change_while_a_federation_runs(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = build()
    following = without_member(stage.federation, "p3", revoked=False)
    stricter = following.model_copy(
        update={"policy": following.policy.model_copy(update={"quorum": 1})}
    )
    file = tmp_path / "stricter.toml"
    file.write_text(federation_toml(stricter))
    with pytest.raises(ConfigError, match="another policy"):
        await publish_rosters(stage.file("alice"), [file], stage.roster_key, LEAD)
    assert await published_rosters(stage.file("alice")) == []
