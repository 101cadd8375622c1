"""The helper's share in a header: for the helper alone, and of no use anywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fi_stream.aggregation.admission import result_bytes
from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.events.codec import pack
from fi_stream.events.envelope import HEADER_BYTES, decode_envelope, encode_envelope
from fi_stream.events.header import Ask, Reply, Share
from fi_stream.events.payloads import Abstain, Contributor, Outcome, frame, response_length
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import Chosen, HalfPayload, ProposalPayload, ReleasePayload
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.federation import Federation
from fi_stream.federation.policy import Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rosters import Rosters
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.sealing.audiences import use_of
from fi_stream.sealing.epochs import OwnEpoch, new_epoch
from fi_stream.sealing.gate import Gate, Verified
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.sealing.keys import ContentKey
from fi_stream.sealing.seeds import open_seed, seal_seed
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.events.header import Purpose

SEED = bytes(range(32))
SHARE = b"id of both shares"[:16]
LONG = "p" * 64
ROLES = {
    "p1": Role.PARTICIPANT,
    LONG: Role.PARTICIPANT,
    "agg": Role.AGGREGATOR,
    "alice": Role.CLIENT,
    "helper": Role.HELPER,
}
IDENTITIES = {name: Identity.generate(name) for name in ROLES}
NOW = ManualClock()


def federation(classes: int = 3) -> Federation:
    members = tuple(
        Member(**IDENTITIES[name].card().model_dump(), roles=frozenset({role}))
        for name, role in ROLES.items()
    )
    spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
    return Federation(
        name="test",
        task=Task(kind="multiclass", classes=tuple(map(str, range(classes))), inputs=(spec,)),
        policy=Policy(protections=(Protection.SECAGG,), secagg=SecaggPolicy(k_min=2)),
        roster=Roster(version=1, members=members),
    )


FEDERATION = federation()


def epoch(member: str, purpose: Purpose, one: Federation = FEDERATION) -> OwnEpoch:
    use = use_of(ROLES[member], purpose, "secagg", "alice")
    assert use is not None
    what = (member, purpose)
    return new_epoch(IDENTITIES[member], one, what, use.audience(one), NOW.wall())


def gate(member: str, *grants: OwnEpoch) -> Gate:
    rosters = Rosters(FEDERATION)
    keyring = Keyring(rosters, member, Identities(IDENTITIES[member]))
    made = Gate(rosters, keyring, BrokerClock(NOW, Millis(2000)))
    for one in grants:
        assert made.granted(one.grant)[1] is None
    return made


def ask(**changes: object) -> Ask:
    fields = {
        "query": bytes(range(16)),
        "partition": 1,
        "rule": "soft",
        "rows": 1,
        "protection": "secagg",
        "created": NOW.wall(),
        "deadline": NOW.wall() + 500,
    }
    return Ask.model_validate({**fields, **changes})


def record(value: bytes, topic: str = "fi.responses") -> Record:
    return Record(Partition(topic, 1), 0, BrokerMillis(NOW.wall()), None, value)


def answered(share: Share, response: OwnEpoch) -> bytes:
    reply = Reply(client="alice", digest=b"d" * 32, kind="answer", share=share)
    payload = frame(Abstain(reason=1))  # the leader's half: not looked at here
    return response.seal(ask(), reply, payload).value


@pytest.fixture(scope="module")
def epochs() -> tuple[OwnEpoch, OwnEpoch]:
    return epoch("p1", "response"), epoch("p1", "share")


def sealed(share: OwnEpoch) -> Share:
    return seal_seed(share, ask(), ("alice", b"d" * 32), SHARE, SEED)


def verified(at: Gate, value: bytes) -> Verified:
    event = at.admit(record(value), "response")
    assert isinstance(event, Verified), event
    return event


def key_of(at: Gate, event: Verified) -> ContentKey | Refusal | None:
    assert event.header.reply is not None
    assert event.header.reply.share is not None
    return at.part_key(event, event.header.reply.share.epoch, "share")


def test_the_helper_opens_the_seed_and_the_leader_cannot(
    epochs: tuple[OwnEpoch, OwnEpoch],
) -> None:
    response, share = epochs
    value = answered(sealed(share), response)
    at = gate("helper", response, share)
    event = verified(at, value)
    key = key_of(at, event)
    assert isinstance(key, ContentKey)
    assert event.header.reply is not None
    assert event.header.reply.share is not None
    assert open_seed(key, event.header, event.header.reply.share) == SEED
    opened = event.open(Abstain)
    assert isinstance(opened, Refusal), "the helper has no key to the leader's half"
    leader = gate("agg", response, share)
    event = verified(leader, value)
    assert isinstance(event.open(Abstain), Abstain)
    assert key_of(leader, event) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": b"another id of 16"},
        {"sealed": bytes(48)},
        {"nonce": bytes(12)},
    ],
    ids=str,
)
def test_a_share_that_was_changed_on_the_way_is_a_bad_tag(
    epochs: tuple[OwnEpoch, OwnEpoch], change: dict[str, bytes]
) -> None:
    response, share = epochs
    whole = decode_envelope(answered(sealed(share), response))
    assert not isinstance(whole, Refusal)
    envelope, header = whole
    fields = header.model_dump(exclude_none=True)
    fields["reply"]["share"] |= change
    value = encode_envelope(pack(fields), envelope.nonce, envelope.sealed, envelope.tags)
    heard = gate("helper", response, share).admit(record(value), "response")
    assert isinstance(heard, Refusal)
    assert heard.reason is Reason.BAD_TAG


@pytest.mark.parametrize("what", ["query", "digest", "id"])
def test_a_seed_that_was_sealed_for_another_answer_does_not_open(
    epochs: tuple[OwnEpoch, OwnEpoch], what: str
) -> None:
    """A participant that puts an old share under a new answer."""
    response, share = epochs
    made = sealed(share)
    if what == "query":
        made = seal_seed(share, ask(query=b"q" * 16), ("alice", b"d" * 32), SHARE, SEED)
    elif what == "digest":
        made = seal_seed(share, ask(), ("alice", b"e" * 32), SHARE, SEED)
    else:
        made = made.model_copy(update={"id": b"another id of 16"})
    at = gate("helper", response, share)
    event = verified(at, answered(made, response))
    key = key_of(at, event)
    assert isinstance(key, ContentKey)
    refused = open_seed(key, event.header, made)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.BAD_SHARE


def test_a_share_before_its_grant_waits_with_its_answer(
    epochs: tuple[OwnEpoch, OwnEpoch],
) -> None:
    response, share = epochs
    at = gate("helper", response)
    event = verified(at, answered(sealed(share), response))
    assert key_of(at, event) is None
    assert at.waiting == 1
    released, refusal = at.granted(share.grant)
    assert refusal is None
    assert released == [event.record]
    assert isinstance(key_of(at, verified(at, event.record.value)), ContentKey)


def test_an_epoch_for_something_else_gives_no_key(epochs: tuple[OwnEpoch, OwnEpoch]) -> None:
    response, share = epochs
    made = sealed(share).model_copy(update={"epoch": response.epoch.epoch})
    at = gate("helper", response, share)
    refused = key_of(at, verified(at, answered(made, response)))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.WRONG_EPOCH


@pytest.mark.parametrize("kind", ["abstain", "result"])
def test_a_share_anywhere_but_in_an_answer_is_malformed(
    epochs: tuple[OwnEpoch, OwnEpoch], kind: str
) -> None:
    response, share = epochs
    fields = {"client": "alice", "digest": b"d" * 32, "kind": kind, "share": sealed(share)}
    value = response.seal(ask(), Reply.model_validate(fields), b"").value
    heard = gate("helper", response, share).admit(record(value), "response")
    assert isinstance(heard, Refusal)
    assert heard.reason is Reason.MALFORMED


def test_the_longest_header_with_a_share_is_read() -> None:
    response, share = epoch(LONG, "response"), epoch(LONG, "share")
    longest = ask(rule="r" * 128, rows=2**31 - 1, partition=1, deadline=2**62)
    made = seal_seed(share, longest, ("c" * 64, b"d" * 32), SHARE, SEED)
    reply = Reply(client="c" * 64, digest=b"d" * 32, kind="answer", model="m" * 128, share=made)
    value = response.seal(longest, reply, b"").value
    read = decode_envelope(value)
    assert not isinstance(read, Refusal)
    assert len(read[0].header) <= HEADER_BYTES


@pytest.mark.parametrize(("rows", "classes"), [(1, 3), (7, 40), (100, 10)])
def test_no_event_of_a_secure_sum_is_larger_than_admission_counts_on(
    rows: int, classes: int
) -> None:
    one = federation(classes)
    asked = ask(rows=rows)
    data = bytes(rows * (classes + 1) * 8)
    total = Tensor(name="sum", datatype=Datatype.UINT64, shape=(rows, classes + 1), data=data)
    everyone = [Contributor(member="p" * 64, model="m" * 128) for _ in range(2)]
    half = HalfPayload(
        outcome=Outcome.COMPLETE,
        members=b"s" * 32,
        total=total,
        scale=2**16,
        contributors=tuple(everyone),
    )
    reply = Reply(client="alice", digest=b"d" * 32, kind="half")
    inner = epoch("agg", "half", one).seal(asked, reply, frame(half)).value
    proposal = ProposalPayload(
        members=tuple(Chosen(member="p" * 64, share=SHARE) for _ in range(2)),
        read=2**62,
        half=inner,
    )
    release = ReleasePayload(members=b"s" * 32, total=total, half=inner)
    sizes = [
        len(epoch(member, purpose, one).seal(asked, kind, frame(payload)).value)
        for member, purpose, kind, payload in (
            ("agg", "proposal", reply.model_copy(update={"kind": "proposal"}), proposal),
            ("helper", "result", reply.model_copy(update={"kind": "result"}), release),
        )
    ]
    assert max(sizes) <= result_bytes(one, asked)
    assert result_bytes(one, asked) < 2 * max(sizes) + 6 * HEADER_BYTES
    assert response_length(rows, classes + 1) < max(sizes)
