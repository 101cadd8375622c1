"""A federation for each schedule; each of its participants answers with a class of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.crash.broker import SESSION_MS
from bench.crash.history import Terms
from bench.crash.schedule import CLIENT, PARTICIPANTS
from fi_stream.events.tensors import Datatype
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Form, Limits, Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.federation.writing import dumps
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from bench.crash.schedule import Schedule

AGGREGATOR = "aggregator"
"""The one member that both aggregator processes are."""

HELPER = "helper"
"""The one member that both helper processes are, in schedules of secure sums."""

_CLOCKS_MS = 15
"""What the close of a query may be off by, the clocks of one machine being read apart."""

_HOP_MS = 150
"""Of secure sums: a proposal must be opened within two, on a machine that is full."""

_QUORUM = 2
_EPSILON = 4.0
_MODEL = """\
import numpy as np


def load():
    def predict(inputs):
        rows = next(iter(inputs.values())).shape[0]
        answer = np.zeros((rows, {classes}))
        answer[:, {label}] = 1.0
        return answer

    return predict
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A federation on disk, and the keys of all its members."""

    folder: Path
    federation: Federation
    identities: dict[str, Identity]
    bound_ms: int

    def member(self, name: str) -> Path:
        """The member.toml of a member."""
        return self.folder / name / "member.toml"

    def ledger(self, participant: str) -> Path:
        """Where a participant's charges are."""
        return self.folder / participant / "budget.ledger"

    def terms(self) -> Terms:
        """What this federation's results are held against."""
        policy = self.federation.policy
        sums = policy.secagg is not None
        edge = policy.limits.hop_ms * (2 if sums else 1) + _CLOCKS_MS
        return Terms(PARTICIPANTS, _QUORUM, self.bound_ms, edge, sums)

    @property
    def store(self) -> Path:
        """What the helper's processes remember."""
        return self.folder / HELPER / "releases.sqlite"


def write(folder: Path, bootstrap: str, schedule: Schedule) -> Written:
    """Make the keys and files of one schedule's federation."""
    roles = dict.fromkeys(PARTICIPANTS, Role.PARTICIPANT)
    roles |= {AGGREGATOR: Role.AGGREGATOR, CLIENT: Role.CLIENT}
    if schedule.sums:
        roles[HELPER] = Role.HELPER
    identities = {name: Identity.generate(name) for name in roles}
    members = tuple(
        Member(**identity.card().model_dump(), roles=frozenset({roles[name]}))
        for name, identity in identities.items()
    )
    form, rule = (Form.LABEL, "hard") if schedule.noised else (Form.PROBABILITIES, "soft")
    federation = Federation(
        name=f"crash-{schedule.seed}-{schedule.number}",
        task=Task(
            kind="multiclass",
            classes=PARTICIPANTS,
            inputs=(TensorSpec(name="number", datatype=Datatype.FP32, shape=(1,)),),
        ),
        policy=Policy(form=form, rules=(rule,), quorum=_QUORUM, **_levels(schedule)),
        roster=Roster(version=1, members=members),
    )
    folder.mkdir(parents=True)
    (folder / "federation.toml").write_text(federation_toml(federation), "utf-8")
    written = Written(folder, federation, identities, schedule.bound_ms)
    for name, identity in identities.items():
        identity.save(folder / name / "keys")
        content: dict[str, object] = {
            "member": {"id": name, "federation": "../federation.toml", "keys": "keys"},
            "kafka": {
                "bootstrap.servers": bootstrap,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 8,
            },
        }
        if name in PARTICIPANTS:
            content["model"] = {"factory": "model:load", "gives": "probabilities", "threads": 1}
            content["privacy"] = _privacy(noised=schedule.noised)
            label = PARTICIPANTS.index(name)
            code = _MODEL.format(classes=len(PARTICIPANTS), label=label)
            (folder / name / "model.py").write_text(code, "utf-8")
        if name == HELPER:
            content["helper"] = {"store": written.store.name}
        written.member(name).write_text(dumps(content), "utf-8")
    return written


def _levels(schedule: Schedule) -> dict[str, Any]:
    if not schedule.sums:
        return {"protections": (Protection(schedule.protection),)}
    return {
        "protections": (Protection.SECAGG,),
        "secagg": SecaggPolicy(k_min=_QUORUM),
        "limits": Limits(hop_ms=_HOP_MS),
    }


def _privacy(*, noised: bool) -> dict[str, object]:
    if not noised:
        return {"mechanism": "none"}
    return {
        "mechanism": "randomised_response",
        "epsilon": _EPSILON,
        "budget": 1e6,
        "ledger": "budget.ledger",
    }
