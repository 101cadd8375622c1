"""Leaders, helpers and participants that do not follow the protocol, and what they get."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import names_of, rows

from fi_stream import connect
from fi_stream.aggregation.sums import scores_of
from fi_stream.events.envelope import decode_envelope
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Answer, Contributor, Outcome, ResultPayload, frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import (
    Chosen,
    HalfPayload,
    ProposalPayload,
    RefusalPayload,
    ReleasePayload,
)
from fi_stream.events.tensors import to_array
from fi_stream.federation.policy import Limits, Protection, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.roles import responding
from fi_stream.roles.leading import sum_tensor
from fi_stream.roles.own_epochs import Need
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.keys import ContentKey
from fi_stream.sealing.seeds import open_seed
from fi_stream.secagg.sets import set_digest
from fi_stream.secagg.shares import Bound, mask, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stage import Stage, Wire

    from fi_stream.events.header import Ask

ANSWERING = ("p1", "p2", "p3")
EVERYONE = (*ANSWERING, "agg", "helper")
WITHIN = 10.0
SECAGG: dict[str, Any] = {
    "protections": (Protection.SECAGG, Protection.TRUSTED),
    "quorum": 1,
    "secagg": SecaggPolicy(k_min=2),
    "limits": Limits(hop_ms=500),
}


async def listened(wire: Wire, topic: str, query: bytes, kind: str) -> list[Verified]:
    """What this member can verify of a query's events on a topic."""
    found = []
    for record in await wire.kept(topic):
        if record.key == query:
            event = wire.keys.gate.admit_known(record, kind)  # type: ignore[arg-type]
            if isinstance(event, Verified):
                found.append(event)
    return found


async def read_grants(wire: Wire) -> None:
    """Take in all grants that are there."""
    for record in await wire.kept("fi.keys"):
        wire.keys.gate.granted(record.value)


class Leader:
    """An aggregator's keys in the hands of somebody else."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def answers(self, ask: Ask, count: int) -> list[Verified]:
        """The first so many answers to a query, once they are there."""
        ends = time.monotonic() + WITHIN
        while time.monotonic() < ends:
            await read_grants(self.wire)
            found = await listened(self.wire, "fi.responses", ask.query, "response")
            if len(found) >= count:
                return sorted(found, key=lambda event: event.header.sender)
        pytest.fail("not all have answered")

    def seal(self, ask: Ask, digest: bytes, kind: Any, payload: Any) -> bytes:
        reply = Reply(client="alice", digest=digest, kind=kind)
        need = Need(1, ask.protection, "alice", kind)
        return self.wire.keys.own.find(need).seal(ask, reply, frame(payload)).value

    async def propose(self, ask: Ask, answers: Sequence[Verified], **change: Any) -> None:
        chosen = []
        for event in answers:
            assert event.header.reply is not None
            assert event.header.reply.share is not None
            chosen.append((event.header.sender, event.header.reply.share.id))
        digest = answers[0].header.reply.digest  # type: ignore[union-attr]
        half = HalfPayload(
            outcome=Outcome.COMPLETE,
            members=set_digest(tuple(chosen)),
            total=sum_tensor(np.zeros((1, 4), dtype=np.uint64)),
            scale=2**16,
            contributors=tuple(Contributor(member=member, model="m") for member, _ in chosen),
        )
        proposal = ProposalPayload(
            members=tuple(Chosen(member=m, share=s) for m, s in chosen),
            read=1 + max(event.record.offset for event in answers),
            half=self.seal(ask, digest, "half", half),
        )
        told = ask.model_copy(update=change)
        value = self.seal(told, digest, "proposal", proposal)
        await self.wire.put("fi.proposals", ask.partition, value, ask.query)

    async def heard(self, ask: Ask) -> list[RefusalPayload]:
        """The helper's refusals."""
        ends = time.monotonic() + WITHIN
        while time.monotonic() < ends:
            await read_grants(self.wire)
            events = await listened(self.wire, "fi.proposals", ask.query, "proposal")
            read = [e.open(RefusalPayload) for e in events if e.header.reply.kind == "refusal"]  # type: ignore[union-attr]
            if read:
                return [one for one in read if isinstance(one, RefusalPayload)]
        pytest.fail("nothing was refused")


async def asked(client: Wire, seconds: float = 8.0) -> Ask:
    soon = client.seat.clock.now() + round(1000 * seconds)
    ask, event = client.query(rows(1)[0], deadline=soon, protection="secagg")
    assert await client.seat.publish([event])
    return ask


async def test_a_leader_gets_no_second_set_from_which_it_could_subtract(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy=SECAGG)
    async with (
        stage.running(*ANSWERING, "helper"),
        stage.wire("alice", Role.CLIENT) as client,
        stage.wire("agg", Role.AGGREGATOR) as wire,
        client.results() as results,
    ):
        leader, ask = Leader(wire), await asked(client)
        answers = await leader.answers(ask, 3)
        await leader.propose(ask, answers)
        event, _ = await results.next()
        assert isinstance(event.open(ReleasePayload), ReleasePayload)
        await leader.propose(ask, answers[:2])
        [refusal] = await leader.heard(ask)
        assert Reason.from_code(refusal.reason) is Reason.SECOND_SET
        await leader.propose(ask, answers)  # the same again: the same sum again
        again, _ = await results.next()
        first, second = event.open(ReleasePayload), again.open(ReleasePayload)
        assert isinstance(first, ReleasePayload)
        assert isinstance(second, ReleasePayload)
        assert (first.members, first.total) == (second.members, second.total)
        assert await results.gather(0.3) == []


async def test_a_set_below_k_min_is_refused(build: Callable[..., Stage]) -> None:
    stage = build(policy=SECAGG)
    async with (
        stage.running(*ANSWERING, "helper"),
        stage.wire("alice", Role.CLIENT) as client,
        stage.wire("agg", Role.AGGREGATOR) as wire,
        client.results() as results,
    ):
        leader, ask = Leader(wire), await asked(client)
        answers = await leader.answers(ask, 3)
        await leader.propose(ask, answers[:1])
        [refusal] = await leader.heard(ask)
        assert Reason.from_code(refusal.reason) is Reason.TOO_FEW_ANSWERS
        assert await results.gather(0.3) == []


@pytest.mark.parametrize("change", [{"deadline": 10_000}, {"rule": "hard"}], ids=str)
async def test_a_leader_that_says_something_else_was_asked_gets_no_sum(
    build: Callable[..., Stage], change: dict[str, Any]
) -> None:
    """With another deadline it could have a second set, once the first is forgotten."""
    stage = build(policy=SECAGG)
    async with (
        stage.running(*ANSWERING, "helper"),
        stage.wire("alice", Role.CLIENT) as client,
        stage.wire("agg", Role.AGGREGATOR) as wire,
        client.results() as results,
    ):
        leader, ask = Leader(wire), await asked(client)
        answers = await leader.answers(ask, 3)
        if "deadline" in change:
            change = {"deadline": ask.deadline + change["deadline"]}
        await leader.propose(ask, answers, **change)
        [refusal] = await leader.heard(ask)
        assert Reason.from_code(refusal.reason) is Reason.BAD_SHARE
        assert [one.member for one in refusal.bad] == list(ANSWERING)
        assert await results.gather(0.3) == []


async def test_neither_party_can_open_an_answer_and_both_together_can(
    build: Callable[..., Stage],
) -> None:
    """The last is the documented limit: they must be two who do not work together."""
    stage = build(policy=SECAGG)
    async with (
        stage.running(*ANSWERING),
        stage.wire("alice", Role.CLIENT) as client,
        stage.wire("agg", Role.AGGREGATOR) as leading,
        stage.wire("helper", Role.HELPER) as helping,
    ):
        ask = await asked(client)
        for wire in (leading, helping):
            answers = await Leader(wire).answers(ask, 3)
        [event] = [e for e in answers if e.header.sender == "p1"]
        reply = event.header.reply
        assert reply is not None
        assert reply.share is not None
        assert isinstance(event.open(Answer), Refusal), "the helper may only check it"
        theirs = await Leader(leading).answers(ask, 3)
        [half] = [e.open(Answer) for e in theirs if e.header.sender == "p1"]
        assert isinstance(half, Answer)
        no_key = leading.keys.gate.part_key(event, reply.share.epoch, "share")
        assert not isinstance(no_key, ContentKey), "the leader has no key to the seed"
        key = helping.keys.gate.part_key(event, reply.share.epoch, "share")
        assert isinstance(key, ContentKey)
        seed = open_seed(key, event.header, reply.share)
        assert isinstance(seed, bytes)
        values = to_array(half.outputs[0])
        assert not isinstance(values, Refusal)
        bound = Bound("alice", ask.query, reply.digest, "p1", 1, 4)
        whole = opened(values.astype(np.uint64), mask(seed, bound))
    scores = scores_of(whole, 2**16)
    assert scores.sum() == pytest.approx(1.0, abs=1e-3)
    drawn = rows(1)
    assert scores[0, :3].argmax() == ("cat", "dog", "bird").index(names_of(drawn)[0])


async def test_an_aggregator_alone_cannot_tell_a_label_under_secagg(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy=SECAGG)
    async with (
        stage.wire("agg", Role.AGGREGATOR) as wire,
        connect(stage.file("alice")) as client,
    ):
        posted = client.post(rows(1), deadline=1.5)
        [waiting] = client._open.values()
        reply = Reply(client="alice", digest=waiting.digest, kind="result")
        for outcome in (Outcome.COMPLETE, Outcome.PARTIAL):
            need = Need(1, "secagg", "alice", "result")
            payload = frame(ResultPayload(outcome=outcome))
            sealed = wire.keys.own.find(need).seal(waiting.ask, reply, payload)
            await wire.put("fi.results", waiting.ask.partition, sealed.value, waiting.ask.query)
        result = await posted
        assert result.outcome is None
        assert client.refusals == {"wrong_form": 2}


async def test_a_helper_tells_no_results_but_those_of_secure_sums(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy=SECAGG)
    async with (
        stage.wire("helper", Role.HELPER) as wire,
        connect(stage.file("alice")) as client,
    ):
        posted = client.post(rows(1), deadline=1.5, protection="trusted")
        [waiting] = client._open.values()
        reply = Reply(client="alice", digest=waiting.digest, kind="result")
        epoch = wire.keys.own.find(Need(1, "secagg", "alice", "result"))
        sealed = epoch.seal(waiting.ask, reply, frame(ResultPayload(outcome=Outcome.NO_QUORUM)))
        await wire.put("fi.results", waiting.ask.partition, sealed.value, waiting.ask.query)
        assert (await posted).outcome is None
        assert client.refusals == {"wrong_role": 1}


async def test_an_answer_without_a_share_counts_as_none(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = responding.Reply

    def bare(**fields: Any) -> Reply:
        return original(**{**fields, "share": None})

    monkeypatch.setattr(responding, "Reply", bare)
    stage = build(policy=SECAGG)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1), deadline=5.0)
    assert result.outcome is Outcome.NO_QUORUM
    assert result.missing == dict.fromkeys(ANSWERING, "bad_share")


async def test_an_answer_and_an_abstain_have_one_length_on_the_wire(
    build: Callable[..., Stage],
) -> None:
    """But for the share in the header, whose kind says the same."""
    raises = "if (x[:, 3] == 77).any(): raise ValueError('no')"
    stage = build(policy=SECAGG, models={"p1": raises})
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        drawn = rows(1)
        drawn[:, 3] = 77
        result = await client.ask(drawn, deadline=5.0)
        assert result.missing == {"p1": "model_failed"}
        async with stage.wire("bob", Role.CLIENT, announce=False) as wire:
            kept = await wire.kept("fi.responses")
    sealed = {len(decode_envelope(record.value)[0].sealed) for record in kept}  # type: ignore[index]
    assert len(kept) == 3
    assert len(sealed) == 1
