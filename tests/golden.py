"""The golden events of `topics/golden/`: bytes that every later version must still read.

`.venv/bin/python tests/golden.py` made them, once: HPKE and nonces are random, so another run would
make others, and it refuses to. The members' keys are fixed, and written beside the events, so that
anyone can verify and open them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.events.dead_letter import (
    Kept,
    Origin,
    Refuser,
    clear_letter,
    decode_letter,
    encode_letter,
    letter_about,
)
from fi_stream.events.envelope import clear_fields
from fi_stream.events.grant import clear_grant, decode_grant
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import (
    Abstain,
    Answer,
    Contributor,
    Missing,
    Noise,
    Outcome,
    QueryPayload,
    ResultPayload,
    frame,
    response_length,
)
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.roster import clear_roster, decode_roster
from fi_stream.events.sums import (
    Chosen,
    HalfPayload,
    ProposalPayload,
    RefusalPayload,
    ReleasePayload,
)
from fi_stream.events.tensors import Datatype, Tensor, to_array, to_tensor
from fi_stream.federation.federation import Federation
from fi_stream.federation.policy import Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rosters import Published, Rosters
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.sealing.audiences import use_of
from fi_stream.sealing.epochs import new_epoch
from fi_stream.sealing.gate import Gate, Verified
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.sealing.keyring import Keyring
from fi_stream.sealing.keys import ContentKey
from fi_stream.sealing.published import RosterKey, read_roster
from fi_stream.sealing.seeds import open_seed, seal_seed
from fi_stream.secagg.sets import set_digest
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.events.dead_letter import DeadLetter
    from fi_stream.events.header import EventType, Purpose
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.values import Value

FOLDER = Path(__file__).parents[1] / "topics" / "golden"
MADE = BrokerMillis(1_750_000_000_000)
ROLES = {
    "agg": Role.AGGREGATOR,
    "alice": Role.CLIENT,
    "p1": Role.PARTICIPANT,
    "p2": Role.PARTICIPANT,
    "helper": Role.HELPER,
}
CLASSES = ("cat", "dog", "bird")


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden event: where it stands, who reads it, what is sealed in it, under which epoch."""

    type: EventType
    readers: tuple[str, ...]
    openers: tuple[str, ...]
    payload: type[Value]
    epoch: str


EVENTS = {
    "query": Golden("query", ("p1", "p2", "agg"), ("p1", "p2"), QueryPayload, "query"),
    "answer": Golden("response", ("agg",), ("agg",), Answer, "response"),
    "weighed-answer": Golden("response", ("agg",), ("agg",), Answer, "weighed"),
    "abstain": Golden("response", ("agg",), ("agg",), Abstain, "response"),
    "result": Golden("result", ("alice", "agg"), ("alice",), ResultPayload, "result"),
    "blind-answer": Golden("response", ("alice", "agg"), ("alice",), Answer, "blind"),
    "blind-result": Golden("result", ("alice", "agg"), ("alice",), ResultPayload, "relay"),
    "part": Golden("response", ("agg", "helper"), ("agg",), Answer, "part"),
    "half": Golden("half", ("alice",), ("alice",), HalfPayload, "half"),
    "proposal": Golden("proposal", ("helper", "agg"), ("helper",), ProposalPayload, "proposal"),
    "refusal": Golden("proposal", ("agg", "helper"), ("agg",), RefusalPayload, "refusal"),
    "release": Golden("result", ("alice", "agg"), ("alice",), ReleasePayload, "release"),
}
EPOCHS: dict[str, tuple[str, Purpose, str]] = {
    "query": ("alice", "query", "trusted"),
    "response": ("p1", "response", "trusted"),
    "weighed": ("p1", "response", "trusted"),
    "result": ("agg", "result", "trusted"),
    "blind": ("p1", "response", "blind"),
    "relay": ("agg", "result", "blind"),
    "part": ("p1", "response", "secagg"),
    "share": ("p1", "share", "secagg"),
    "half": ("agg", "half", "secagg"),
    "proposal": ("agg", "proposal", "secagg"),
    "refusal": ("helper", "proposal", "secagg"),
    "release": ("helper", "result", "secagg"),
}
"""Who seals under each, for what, under which protection."""

GRANTS = [f"grant-{epoch}" for epoch in EPOCHS]
SEED = bytes(range(32))
LETTER = "dead-letter"
ROSTER = "roster"


def seed(member: str, key: str, size: int) -> bytes:
    """The fixed private seed of a member's key; of no use but here."""
    return hashlib.shake_256(f"fi_stream golden {member} {key}".encode()).digest(size)


def identity(member: str) -> Identity:
    return Identity(
        member,
        Ed25519PrivateKey.from_private_bytes(seed(member, "ed25519", 32)),
        MLKEM768PrivateKey.from_seed_bytes(seed(member, "mlkem768", 64)),
        X25519PrivateKey.from_private_bytes(seed(member, "x25519", 32)),
    )


def federation() -> Federation:
    members = tuple(
        Member(**identity(name).card().model_dump(), roles=frozenset({role}))
        for name, role in ROLES.items()
    )
    task = Task(
        kind="multiclass",
        classes=CLASSES,
        inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,)),),
    )
    policy = Policy(protections=tuple(Protection), secagg=SecaggPolicy(k_min=2))
    return Federation(
        name="golden", task=task, policy=policy, roster=Roster(version=3, members=members)
    )


def roster_key() -> RosterKey:
    key = Ed25519PrivateKey.from_private_bytes(seed("golden", "ed25519-roster", 32))
    return RosterKey("golden", key)


def published() -> Published:
    """The golden roster again: Ed25519 draws nothing, so it is the same to the byte."""
    one = federation().model_copy(update={"signing_key": roster_key().public})
    return roster_key().publish(one, BrokerMillis(MADE + 60_000))


def bytes_of(name: str) -> bytes:
    return (FOLDER / f"{name}.v1.bin").read_bytes()


def expected(name: str) -> Mapping[str, object]:
    read: dict[str, object] = json.loads((FOLDER / f"{name}.v1.json").read_text("utf-8"))
    return read


def gate(reader: str) -> Gate:
    """The gate of a member of the golden federation, at the time when it was made."""
    clock = BrokerClock(ManualClock(millis=MADE), Millis(2_000))
    one = federation()
    rosters = Rosters(one)
    return Gate(rosters, Keyring(rosters, reader, Identities(identity(reader))), clock)


def record(name: str, value: bytes) -> Record:
    return Record(Partition(EVENTS[name].type, 2), 0, BrokerMillis(MADE + 10), None, value)


def admitted(name: str, reader: str) -> Verified:
    """The golden event, verified by one of its readers from its golden grant."""
    at_gate = gate(reader)
    _, refusal = at_gate.granted(bytes_of(f"grant-{EVENTS[name].epoch}"))
    assert refusal is None, refusal
    event = at_gate.admit(record(name, bytes_of(name)), EVENTS[name].type)
    assert isinstance(event, Verified), event
    return event


def opened_seed() -> bytes | Refusal:
    """The helper's share in the golden answer under `secagg`."""
    at_gate = gate("helper")
    for grant in ("grant-part", "grant-share"):
        at_gate.granted(bytes_of(grant))
    event = at_gate.admit(record("part", bytes_of("part")), "response")
    assert isinstance(event, Verified), event
    assert event.header.reply is not None
    share = event.header.reply.share
    assert share is not None
    key = at_gate.part_key(event, share.epoch, "share")
    assert isinstance(key, ContentKey), key
    return open_seed(key, event.header, share)


def readable_grant(name: str) -> dict[str, object]:
    decoded = decode_grant(bytes_of(name))
    assert not isinstance(decoded, Refusal), decoded
    return dict(clear_grant(decoded[1]))


def readable_roster() -> dict[str, object]:
    base = published().federation
    assert base.signing_key is not None
    read = read_roster(bytes_of(ROSTER), base)
    assert not isinstance(read, Refusal), read
    decoded = decode_roster(bytes_of(ROSTER))
    assert not isinstance(decoded, Refusal), decoded
    fields = {k: _plain(v) for k, v in clear_roster(decoded[1]).items()}
    return {**fields, "signing_key": base.signing_key.hex()}


def readable_letter() -> dict[str, object]:
    letter = decode_letter(bytes_of(LETTER))
    assert not isinstance(letter, Refusal), letter
    return dict(clear_letter(letter))


def readable_event(name: str, reader: str) -> dict[str, object]:
    """What a reader finds in a golden event, as plain values."""
    event = admitted(name, reader)
    payload = event.open(EVENTS[name].payload)
    assert not isinstance(payload, Refusal), payload
    return {
        "digest": event.digest.hex(),
        "header": dict(clear_fields(event.header)),
        "payload": _plain(payload.model_dump(exclude_none=True)),
    }


def _plain(value: object) -> object:
    """Enums as their text, bytes as hexadecimal, a tensor's bytes as the numbers they are."""
    match value:
        case {"datatype": _, "data": _}:
            array = to_array(Tensor.model_validate(value))
            assert not isinstance(array, Refusal), array
            rest = {k: _plain(v) for k, v in value.items() if k != "data"}
            return {**rest, "values": array.tolist()}
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case Outcome() | Datatype():
            return value.value
        case bytes():
            return value.hex()
        case _:
            return value


def _tensor(name: str, array: np.ndarray) -> Tensor:
    made = to_tensor(name, array)
    assert isinstance(made, Tensor), made
    return made


def _make() -> dict[str, bytes]:
    """All golden events, fresh."""
    one = federation()
    epochs = {}
    for name, (sender, purpose, protection) in EPOCHS.items():
        use = use_of(ROLES[sender], purpose, protection, "alice")
        assert use is not None, name
        what = (sender, purpose)
        epochs[name] = new_epoch(identity(sender), one, what, use.audience(one), MADE)
    made = {f"grant-{name}": epoch.grant for name, epoch in epochs.items()}
    ask = Ask(
        query=bytes.fromhex("0197740b3c007abc8def0123456789ab"),
        partition=2,
        rule="soft",
        rows=2,
        protection="trusted",
        created=MADE,
        deadline=MADE + 200,
    )
    room = response_length(ask.rows, one.answer_width)
    rows = np.array([[0.5, -1.25, 3.0, 0.0], [1.0, 2.0, 4.0, 8.0]], dtype=np.float32)
    query = epochs["query"].seal(ask, None, frame(QueryPayload(inputs=(_tensor("x", rows),))))
    made["query"] = query.value

    def reply(kind: str) -> Reply:
        model = "" if kind == "result" else "digits-7"
        return Reply.model_validate(
            {"client": "alice", "digest": query.digest, "kind": kind, "model": model}
        )

    noise = Noise(mechanism="gaussian", epsilon=8.0, delta=1e-6, total=24.0)
    grid = np.array([[1024, -17, 3], [300, 400, 324]])
    answer = Answer(
        form="probabilities", outputs=(_tensor("probabilities", grid),), scale=1024, noise=noise
    )
    made["answer"] = epochs["response"].seal(ask, reply("answer"), frame(answer, room)).value
    abstain = frame(Abstain(reason=Reason.OVER_BUDGET.code), room)
    made["abstain"] = epochs["response"].seal(ask, reply("abstain"), abstain).value
    scores = np.array([[0.75, 0.0, 0.25], [0.125, 0.5, 0.375]])
    result = ResultPayload(
        outcome=Outcome.PARTIAL,
        outputs=(_tensor("label", np.array([0, 1])), _tensor("scores", scores)),
        contributors=(Contributor(member="p1", model="digits-7", noise=noise),),
        missing=(Missing(member="p2", reason=Reason.OVERLOADED.code),),
    )
    made["result"] = epochs["result"].seal(ask, reply("result"), frame(result)).value
    made["weighed-answer"] = _weighed(
        epochs["weighed"], ask.model_copy(update={"rule": "competence_density"}), query.digest
    )
    made |= _relayed(epochs, ask.model_copy(update={"protection": "blind"}), query.digest)
    made |= _secure_sum(epochs, ask.model_copy(update={"protection": "secagg"}), query.digest)
    made[LETTER] = encode_letter(letter())
    made[ROSTER] = published().value
    return made


def _weighed(epoch: OwnEpoch, ask: Ask, digest: bytes) -> bytes:
    """An answer with the participant's own weight of each row."""
    reply = Reply(client="alice", digest=digest, kind="answer", model="digits-7")
    said = np.array([[0.75, 0.0, 0.25], [0.125, 0.5, 0.375]])
    outputs = (_tensor("probabilities", said), _tensor("weight", np.array([0.25, 12.5])))
    answer = Answer(form="probabilities", outputs=outputs)
    room = response_length(ask.rows, len(CLASSES) + 1)
    return epoch.seal(ask, reply, frame(answer, room)).value


def _relayed(epochs: Mapping[str, OwnEpoch], ask: Ask, digest: bytes) -> dict[str, bytes]:
    """An answer that only alice may open, and the result that relays it to her."""
    reply = Reply(client="alice", digest=digest, kind="answer", model="digits-7")
    said = np.array([[0.75, 0.0, 0.25], [0.125, 0.5, 0.375]])
    answer = Answer(form="probabilities", outputs=(_tensor("probabilities", said),))
    room = response_length(ask.rows, len(CLASSES) + 1)
    event = epochs["blind"].seal(ask, reply, frame(answer, room)).value
    silent = (Missing(member="p2"),)
    result = ResultPayload(outcome=Outcome.PARTIAL, missing=silent, responses=(event,))
    reply = Reply(client="alice", digest=digest, kind="result")
    result_event = epochs["relay"].seal(ask, reply, frame(result)).value
    return {"blind-answer": event, "blind-result": result_event}


def _secure_sum(epochs: Mapping[str, OwnEpoch], ask: Ask, digest: bytes) -> dict[str, bytes]:
    """A part of an answer, a proposed set, its refusal, and both halves of its sum."""
    made = {}

    def sealed(name: str, kind: str, payload: Value, **more: object) -> bytes:
        fields = {"client": "alice", "digest": digest, "kind": kind, **more}
        made[name] = epochs[name].seal(ask, Reply.model_validate(fields), frame(payload)).value
        return made[name]

    half = np.arange(8, dtype=np.uint64).reshape(2, 4) * np.uint64(2**61) + np.uint64(7)
    share = seal_seed(epochs["share"], ask, ("alice", digest), b"share id of p1..", SEED)
    noise = Noise(mechanism="gaussian", epsilon=2.0, delta=1e-6, total=2.0)
    part = Answer(form="half", outputs=(_tensor("half", half),), scale=2**16, noise=noise)
    sealed("part", "answer", part, model="digits-7", share=share)
    chosen = (("p1", b"share id of p1.."), ("p2", b"share id of p2.."))
    total = sealed(
        "half",
        "half",
        HalfPayload(
            outcome=Outcome.COMPLETE,
            members=set_digest(chosen),
            total=_tensor("sum", half),
            scale=2**16,
            contributors=tuple(Contributor(member=m, model="digits-7") for m, _ in chosen),
        ),
    )
    members = tuple(Chosen(member=member, share=one) for member, one in chosen)
    sealed("proposal", "proposal", ProposalPayload(members=members, read=12, half=total))
    bad = (Missing(member="p2", reason=Reason.BAD_SHARE.code),)
    refusal = RefusalPayload(members=set_digest(chosen), reason=Reason.BAD_SHARE.code, bad=bad)
    sealed("refusal", "refusal", refusal)
    release = ReleasePayload(members=set_digest(chosen), total=_tensor("sum", ~half), half=total)
    sealed("release", "result", release)
    return made


def letter() -> DeadLetter:
    """Nothing in it is drawn: it is the same whoever makes it, whenever."""
    origin = Origin(topic="fi.queries", partition=2, offset=1_234_567, appended=MADE + 10)
    by = Refuser(member="p1", role="participant")
    return letter_about(origin, Reason.MALFORMED, by, Kept.of(b"0123456789abcdef", b"\xdc" * 5000))


def _keys() -> dict[str, object]:
    one = federation()
    return {
        "federation": one.name,
        "roster": one.roster.version,
        "task": one.task.model_dump(mode="json"),
        "task_hash": one.task.hash.hex(),
        "members": {
            name: {
                "role": role.value,
                "ed25519": seed(name, "ed25519", 32).hex(),
                "mlkem768": seed(name, "mlkem768", 64).hex(),
                "x25519": seed(name, "x25519", 32).hex(),
            }
            for name, role in ROLES.items()
        },
    }


def _write_json(name: str, content: object) -> None:
    text = json.dumps(content, indent=2) + "\n"
    (FOLDER / f"{name}.v1.json").write_text(text, "utf-8")


def main() -> None:
    """Write the files that are not there yet."""
    there = {path.name.removesuffix(".v1.bin") for path in FOLDER.glob("*.v1.bin")}
    fresh = {name: value for name, value in _make().items() if name not in there}
    if not fresh:
        sys.exit(f"{FOLDER} has {len(there)} golden events; they are made once and never again")
    FOLDER.mkdir(exist_ok=True)
    for name, value in fresh.items():
        (FOLDER / f"{name}.v1.bin").write_bytes(value)
    for name in fresh:
        if name == LETTER:
            _write_json(name, readable_letter())
        elif name == ROSTER:
            _write_json(name, readable_roster())
        elif name in GRANTS:
            _write_json(name, readable_grant(name))
        else:
            _write_json(name, readable_event(name, EVENTS[name].openers[0]))
    _write_json("keys", _keys())


if __name__ == "__main__":
    main()
