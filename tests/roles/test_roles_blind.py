"""Queries under `blind`: only the client that asked reads the answers, and it decides by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from members import parts
from stage import EVERY_PROTECTION, names_of, noise, rows

from fi_stream import QueryError, connect
from fi_stream.events.grant import decode_grant
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import Answer, Outcome, ResultPayload, frame, response_length
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Tensor, to_tensor
from fi_stream.federation.policy import Form
from fi_stream.federation.roster import Role
from fi_stream.roles.own_epochs import Need
from fi_stream.sealing.gate import Verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage, Wire

    from fi_stream.roles.client import Client
    from fi_stream.transport.embedded import EmbeddedBroker

EVERYONE = ("agg", "p1", "p2", "p3")
CAT = np.array([[0.9, 0.05, 0.05]])


async def test_a_client_decides_from_answers_that_the_aggregator_relayed(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(policy=EVERY_PROTECTION), rows(3)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn, deadline=5.0, protection="blind")
        assert result.outcome == "complete"
        assert result.labels == names_of(drawn)
        trusted = await client.ask(drawn, deadline=5.0)
        assert trusted.guarantee.protection == "trusted"
    assert result.guarantee.protection == "blind"
    assert result.contributors == trusted.contributors
    assert result.decided.scores.tobytes() == trusted.decided.scores.tobytes()


async def test_the_aggregator_was_granted_no_key_to_any_answer_that_is_on_the_topic(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(policy=EVERY_PROTECTION), rows(4)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        blind = [one async for one in client.stream(drawn, deadline=5.0, protection="blind")]
        trusted = [one async for one in client.stream(drawn, deadline=5.0)]
        assert {one.outcome for one in blind + trusted} == {"complete"}
        async with stage.wire("agg", Role.AGGREGATOR) as wire, wire.results():
            read: Counter[tuple[str, bool]] = Counter()
            for record in await wire.kept("fi.responses"):
                event = wire.keys.gate.admit_known(record, "response")
                assert isinstance(event, Verified)
                opened = event.open(Answer)
                read[event.header.ask.protection, isinstance(opened, Answer)] += 1
    assert read == {("blind", False): 12, ("trusted", True): 12}


async def test_a_participant_begins_one_epoch_for_each_client_that_asks(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(policy=EVERY_PROTECTION), rows(5)
    async with stage.running(*EVERYONE), stage.wire("bob", Role.CLIENT) as wire:
        assert await _begun(wire) == {("p1", "agg"): 1, ("p2", "agg"): 1, ("p3", "agg"): 1}
        async with connect(stage.file("alice")) as client:
            for _ in range(2):
                results = client.stream(drawn, deadline=5.0, protection="blind")
                assert {one.outcome async for one in results} == {"complete"}
        begun = await _begun(wire)
        assert begun == {(p, first): 1 for p in EVERYONE[1:] for first in ("agg", "alice")}


async def test_a_result_is_found_by_another_process_of_its_client_and_read_the_same(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(policy=EVERY_PROTECTION), rows(2)
    async with stage.running(*EVERYONE):
        async with connect(stage.file("alice")) as client:
            first = await client.ask(drawn, deadline=5.0, protection="blind")
        async with connect(stage.file("alice")) as client:
            found = await client.find(first.query_id)
            again = await client.ask(drawn, query_id=first.query_id, protection="blind")
    for one in (found, again):
        assert one.guarantee.protection == "blind"
        assert one.labels == first.labels
        assert one.decided.scores.tobytes() == first.decided.scores.tobytes()


async def test_noise_under_blind_protects_against_the_client_alone(
    build: Callable[..., Stage],
) -> None:
    policy = {**EVERY_PROTECTION, "form": Form.LABEL, "rules": ("hard",)}
    stage = build(policy=policy, privacy=noise(4.0, 100.0))
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(rows(1), deadline=5.0, protection="blind")
    assert result.outcome == "complete"
    said = result.guarantee
    assert (said.protection, said.against, said.epsilon_query) == ("blind", ("client",), 4.0)


async def test_a_result_waits_for_the_grants_of_the_responses_in_it(
    build: Callable[..., Stage],
) -> None:
    """And is not looked at again before one comes, however often the client polls meanwhile."""
    stage = build(policy={**EVERY_PROTECTION, "quorum": 1})
    async with (
        stage.wire("agg", Role.AGGREGATOR) as aggregator,
        stage.wire("p1", Role.PARTICIPANT, announce=False) as participant,
        connect(stage.file("alice")) as client,
    ):
        looks = 0
        read = client._results.read

        def counted(*given: Any, **how: Any) -> Any:
            nonlocal looks
            looks += 1
            return read(*given, **how)

        client._results.read = counted
        asked = client.post(rows(1), deadline=10.0, protection="blind")
        await _relay(client, aggregator, participant)
        await asyncio.sleep(0.3)
        assert not asked.done()
        assert looks <= 3  # the grants of the aggregator may have come in between
        await participant.keys.announce()
        result = await asyncio.wait_for(asked, 5.0)
        assert (result.outcome, result.labels) == ("partial", ["cat"])
        assert client.refusals == {}


async def test_a_grant_that_never_comes_costs_that_response_alone_and_no_more_than_the_deadline(
    build: Callable[..., Stage],
) -> None:
    stage = build(policy={**EVERY_PROTECTION, "quorum": 1})
    async with (
        stage.wire("agg", Role.AGGREGATOR) as aggregator,
        stage.wire("p1", Role.PARTICIPANT) as participant,
        stage.wire("p2", Role.PARTICIPANT, announce=False) as other,
        connect(stage.file("alice")) as client,
    ):
        asked = client.post(rows(1), deadline=2.0, protection="blind")
        await _relay(client, aggregator, participant, other, granted=1)
        result = await asyncio.wait_for(asked, 6.0)
    assert (result.outcome, result.labels) == ("partial", ["cat"])
    assert result.missing == {"p2": "unknown_epoch", "p3": "silent"}
    assert client.refusals == {"unknown_epoch": 1}


async def test_a_protection_that_the_policy_does_not_allow_is_refused_before_anything_is_sent(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        with pytest.raises(QueryError, match="protection 'blind' is not in the policy: trusted"):
            client.post(rows(1), protection="blind")


async def test_nothing_is_sealed_before_its_grant_is_acknowledged(
    build: Callable[..., Stage], broker: EmbeddedBroker
) -> None:
    """Else a client might have an answer that it can never open."""
    stage, need = build(policy=EVERY_PROTECTION), Need(1, "blind", "alice")
    async with stage.wire("p1", Role.PARTICIPANT) as wire:
        broker.go_down()
        await wire.keys.prepare([need], wire.seat.clock.now() + 300)
        assert not wire.keys.own.holds(need)
        broker.come_up()
        await wire.keys.prepare([need], wire.seat.clock.now() + 10_000)
        assert wire.keys.own.holds(need)
        granted = [record.key for record in await wire.kept("fi.keys")]
        assert wire.keys.own.find(need).epoch.epoch in granted


async def _begun(wire: Wire) -> Counter[tuple[str, str]]:
    """The epochs for responses that there are grants of: whose, and the first reader of each."""
    epochs = {}
    for record in await wire.kept("fi.keys"):
        decoded = decode_grant(record.value)
        assert not isinstance(decoded, Refusal)
        grant = decoded[1]
        if grant.epoch.purpose == "response":
            epochs[grant.epoch.epoch] = (grant.epoch.sender, grant.readers[0].reader)
    return Counter(epochs.values())


async def _relay(client: Client, aggregator: Wire, *participants: Wire, granted: int = 0) -> None:
    """Answer alice's open query for these participants; the first have their grants published."""
    [waiting] = client._open.values()
    responses = []
    for number, wire in enumerate(participants):
        need = Need(1, "blind", "alice")
        if number < granted:
            await wire.keys.prepare([need], wire.seat.clock.now() + 10_000)
        else:
            wire.keys.own.take(wire.keys.own.wanted([need]))
        tensor = to_tensor("probabilities", CAT)
        assert isinstance(tensor, Tensor)
        payload = frame(Answer(form="probabilities", outputs=(tensor,)), response_length(1, 3))
        reply = Reply(client="alice", digest=waiting.digest, kind="answer", model="m")
        responses.append(wire.keys.own.find(need).seal(waiting.ask, reply, payload).value)
    made = ResultPayload(outcome=Outcome.PARTIAL, responses=tuple(responses))
    await _put_result(aggregator, waiting.ask, waiting.digest, made)


async def _put_result(wire: Wire, ask: Ask, digest: bytes, payload: ResultPayload) -> None:
    reply = Reply(client="alice", digest=digest, kind="result")
    epoch = wire.keys.own.find(Need(1, "blind", "alice"))
    sealed = epoch.seal(ask, reply, frame(payload))
    assert parts(sealed.value)[1].sender == "agg"
    await wire.put("fi.results", ask.partition, sealed.value, ask.query)
