"""What a client makes of a secure sum: both halves fit, and it is one of honest answers, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import Contributor, Outcome, ResultPayload, frame
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import HalfPayload, ReleasePayload
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.federation import Federation
from fi_stream.federation.policy import Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rosters import Rosters
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.roles.opening import open_result
from fi_stream.sealing.audiences import use_of
from fi_stream.sealing.epochs import OwnEpoch, new_epoch
from fi_stream.sealing.gate import Gate, Verified
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.events.header import Purpose

GRID = 2**16
ROLES = {
    "p1": Role.PARTICIPANT,
    "p2": Role.PARTICIPANT,
    "p3": Role.PARTICIPANT,
    "agg": Role.AGGREGATOR,
    "alice": Role.CLIENT,
    "helper": Role.HELPER,
}
IDENTITIES = {name: Identity.generate(name) for name in ROLES}
TIME = ManualClock()
DIGEST = b"d" * 32


def _federation() -> Federation:
    members = tuple(
        Member(**IDENTITIES[name].card().model_dump(), roles=frozenset({role}))
        for name, role in ROLES.items()
    )
    spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
    return Federation(
        name="test",
        task=Task(kind="multiclass", classes=("cat", "dog", "bird"), inputs=(spec,)),
        policy=Policy(protections=(Protection.SECAGG,), secagg=SecaggPolicy(k_min=2)),
        roster=Roster(version=1, members=members),
    )


FEDERATION = _federation()


def _epoch(member: str, purpose: Purpose) -> OwnEpoch:
    use = use_of(ROLES[member], purpose, "secagg", "alice")
    assert use is not None
    what = (member, purpose)
    audience = use.audience(FEDERATION)
    return new_epoch(IDENTITIES[member], FEDERATION, what, audience, TIME.wall())


HALF, RESULT, TOLD = _epoch("agg", "half"), _epoch("helper", "result"), _epoch("agg", "result")
ASK = Ask(
    query=bytes(range(16)),
    partition=1,
    rule="soft",
    rows=1,
    protection="secagg",
    created=TIME.wall(),
    deadline=TIME.wall() + 500,
)
SUM = np.array([[2 * GRID, GRID, 0, 3 * GRID]], dtype=np.int64)
MASK = np.array([[2**64 - 5, 17, 2**63, 12345]], dtype=np.uint64)


def tensor(values: np.ndarray, datatype: Datatype = Datatype.UINT64) -> Tensor:
    data = values.tobytes()
    return Tensor(name="sum", datatype=datatype, shape=values.shape, data=data)


def contributors(*members: str) -> tuple[Contributor, ...]:
    return tuple(Contributor(member=member, model="m") for member in members)


def half(whole: np.ndarray = SUM, ask: Ask = ASK, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "outcome": Outcome.COMPLETE,
        "members": b"s" * 32,
        "total": tensor(whole.view(np.uint64) - MASK),
        "scale": GRID,
        "contributors": contributors("p1", "p2", "p3"),
    }
    payload = HalfPayload.model_validate({**fields, **changes})
    reply = Reply(client="alice", digest=DIGEST, kind="half")
    return HALF.seal(ask, reply, frame(payload)).value


def client(*epochs: OwnEpoch) -> Gate:
    rosters = Rosters(FEDERATION)
    keyring = Keyring(rosters, "alice", Identities(IDENTITIES["alice"]))
    made = Gate(rosters, keyring, BrokerClock(TIME, Millis(2000)))
    for one in epochs or (HALF, RESULT, TOLD):
        assert made.granted(one.grant)[1] is None
    return made


def opened(value: bytes, gate: Gate | None = None) -> ResultPayload | Refusal:
    gate = gate or client()
    source = Partition("fi.results", 1)
    event = gate.admit(Record(source, 0, BrokerMillis(TIME.wall()), None, value), "result")
    assert isinstance(event, Verified), event
    return open_result(event, gate)


def release(inner: bytes, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"members": b"s" * 32, "total": tensor(MASK), "half": inner}
    payload = ReleasePayload.model_validate({**fields, **changes})
    reply = Reply(client="alice", digest=DIGEST, kind="result")
    return RESULT.seal(ASK, reply, frame(payload)).value


def reason(found: ResultPayload | Refusal) -> Reason:
    assert isinstance(found, Refusal), found
    return found.reason


def test_two_halves_that_fit_are_a_result() -> None:
    found = opened(release(half()))
    assert isinstance(found, ResultPayload)
    assert found.outcome is Outcome.COMPLETE
    assert [one.member for one in found.contributors] == ["p1", "p2", "p3"]
    label, scores = (np.frombuffer(t.data, t.datatype.numpy) for t in found.outputs)
    assert label.tolist() == [0]
    assert scores == pytest.approx([2 / 3, 1 / 3, 0])


def test_halves_of_different_sets_are_no_result() -> None:
    assert reason(opened(release(half(), members=b"t" * 32))) is Reason.WRONG_FORM


@pytest.mark.parametrize("value", [3 * GRID + 1, -1, 2**62, -(2**62)])
def test_a_sum_that_honest_answers_cannot_have_is_refused(value: int) -> None:
    wrong = SUM.copy()
    wrong[0, 2] = value
    assert reason(opened(release(half(wrong)))) is Reason.SUM_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"contributors": contributors("p1")}, Reason.TOO_FEW_ANSWERS),
        ({"contributors": contributors("p1", "p1", "p2")}, Reason.WRONG_FORM),
        ({"contributors": contributors("p1", "p2", "alice")}, Reason.WRONG_FORM),
        ({"outcome": Outcome.DECIDED}, Reason.WRONG_FORM),
        ({"scale": 1}, Reason.WRONG_FORM),
        ({"total": tensor(SUM[:, :3])}, Reason.WRONG_SHAPE),
        ({"total": tensor(SUM, Datatype.INT64)}, Reason.WRONG_DATATYPE),
    ],
    ids=["too few", "twice", "no participant", "decided", "scale", "shape", "datatype"],
)
def test_a_leader_that_says_what_cannot_be_is_refused(changes: dict[str, Any], why: Reason) -> None:
    assert reason(opened(release(half(**changes)))) is why


@pytest.mark.parametrize(
    "change", [{"query": b"q" * 16}, {"deadline": TIME.wall() + 501}, {"rows": 2}], ids=str
)
def test_the_half_of_another_query_is_refused(change: dict[str, Any]) -> None:
    inner = half(ask=ASK.model_copy(update=change))
    assert reason(opened(release(inner))) is Reason.WRONG_QUERY


def test_a_half_that_its_leader_did_not_seal_is_refused() -> None:
    spoilt = bytearray(half())
    spoilt[-1] ^= 1
    assert reason(opened(release(bytes(spoilt)))) is Reason.BAD_TAG
    result = TOLD.seal(ASK, Reply(client="alice", digest=DIGEST, kind="result"), b"").value
    assert reason(opened(release(result))) is Reason.WRONG_TOPIC
    assert reason(opened(release(b"\xff"))) is Reason.MALFORMED


def test_a_half_whose_grant_has_not_come_is_to_be_looked_at_again() -> None:
    gate, value = client(RESULT), release(half())
    assert reason(opened(value, gate)) is Reason.UNKNOWN_EPOCH
    gate.granted(HALF.grant)
    assert isinstance(opened(value, gate), ResultPayload)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_aggregator_alone_may_only_say_that_there_is_no_sum(outcome: Outcome) -> None:
    reply = Reply(client="alice", digest=DIGEST, kind="result")
    found = opened(TOLD.seal(ASK, reply, frame(ResultPayload(outcome=outcome))).value)
    if outcome in (Outcome.NO_QUORUM, Outcome.REJECTED):
        assert isinstance(found, ResultPayload)
    else:
        assert reason(found) is Reason.WRONG_FORM
