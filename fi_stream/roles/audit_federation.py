"""The federation of an audit, on disk: models in it say what the query tells them to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from fi_stream.events.tensors import Datatype
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Policy, Protection
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.federation.writing import dumps
from fi_stream.privacy.allowed import TABLE
from fi_stream.privacy.guesses import VOTERS, neighbours
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.member import PrivacySection

_BUDGET = 1e9
_MODEL = """\
import json
from pathlib import Path

import numpy as np

PREDICTIONS = np.array(json.loads(Path(__file__).with_suffix(".json").read_text()))


def load():
    return predict


def predict(inputs):
    worlds = (inputs["world"][:, 0] > 0.5).astype(int)
    return np.take(PREDICTIONS, worlds, axis=-2)
"""
"""What each world gives: [2, classes] of one model, [models, 2, classes] of several that vote."""


@dataclass(frozen=True, slots=True)
class Game:
    """The member files of those who play; without a `reader` who asks looks at the results."""

    participants: tuple[Path, ...]
    aggregator: Path | None
    reader: Path | None
    asker: Path


def write_participant(
    home: Path,
    bootstrap: str,
    real: Federation,
    privacy: PrivacySection,
    predictions: NDArray[np.float64],
) -> Game:
    """A participant with that `[privacy]`, and a reader with the aggregator's keys.

    Args:
        home: an empty directory.
        bootstrap: the broker's address.
        real: the participant's own federation; its classes and form are taken over.
        privacy: of the participant; its ledger is not touched, and its budget not spent.
        predictions: [2, classes], what the planted model says in each world.
    """
    says = predictions
    if privacy.mechanism is Mechanism.NOISY_MAX:
        says = voters(predictions.shape[1])
    rules = next(
        line.rules
        for line in TABLE
        if line.speaks_of(privacy.mechanism) and Protection.TRUSTED in line.protections
    )
    policy = Policy(form=real.policy.form, rules=rules, protections=(Protection.TRUSTED,))
    written = _Writing(home, bootstrap)
    audited = written.participant("audited", says, _unbound(privacy))
    reader = written.member("reader", Role.AGGREGATOR, {})
    asker = written.member("asker", Role.CLIENT, {})
    written.federation(real, policy)
    return Game((audited,), None, reader, asker)


def write_aggregator(home: Path, bootstrap: str, real: Federation, privacy: PrivacySection) -> Game:
    """An aggregator that adds the noise, and participants of which one decides the vote."""
    written = _Writing(home, bootstrap)
    votes = voters(len(real.task.classes))
    names = [f"voter-{number}" for number in range(VOTERS)]
    participants = tuple(
        written.participant(name, says, {"mechanism": Mechanism.NONE.value})
        for name, says in zip(names, votes, strict=True)
    )
    aggregator = written.member("audited", Role.AGGREGATOR, {"privacy": _unbound(privacy)})
    asker = written.member("asker", Role.CLIENT, {})
    limits = real.policy.limits.model_copy(update={"max_deadline_ms": 30_000})
    written.federation(real, real.policy.model_copy(update={"quorum": VOTERS, "limits": limits}))
    return Game(participants, aggregator, None, asker)


def voters(classes: int) -> NDArray[np.float64]:
    """What each of several says in each world, [voters, 2, classes]: the last one decides."""
    votes = neighbours(classes).round()
    fixed = [np.stack([votes[number % 2]] * 2) for number in range(VOTERS - 1)]
    return np.stack([*fixed, votes])


def _unbound(privacy: PrivacySection) -> dict[str, Any]:
    """The section with a budget that never ends, in a ledger of its own."""
    asked = privacy.model_dump(mode="json", exclude_none=True, exclude={"budget_all"})
    return asked | {"budget": _BUDGET, "ledger": "budget.ledger"}


class _Writing:
    def __init__(self, home: Path, bootstrap: str) -> None:
        self._home = home
        self._bootstrap = bootstrap
        self._members: list[Member] = []

    def participant(self, name: str, says: NDArray[np.float64], privacy: dict[str, Any]) -> Path:
        module = f"audited_{uuid4().hex}"
        model = {"factory": f"{module}:load", "gives": "probabilities", "threads": 1}
        file = self.member(name, Role.PARTICIPANT, {"model": model, "privacy": privacy})
        file.with_name(f"{module}.py").write_text(_MODEL, "utf-8")
        file.with_name(f"{module}.json").write_text(json.dumps(says.tolist()), "utf-8")
        return file

    def member(self, name: str, role: Role, sections: Mapping[str, Any]) -> Path:
        identity = Identity.generate(name)
        identity.save(self._home / name / "keys")
        self._members.append(Member(**identity.card().model_dump(), roles=frozenset({role})))
        content = {
            "member": {"id": name, "federation": "../federation.toml", "keys": "keys"},
            "kafka": {"bootstrap.servers": self._bootstrap},
            **sections,
        }
        file = self._home / name / "member.toml"
        file.write_text(dumps(content), "utf-8")
        return file

    def federation(self, real: Federation, policy: Policy) -> None:
        made = Federation(
            name=f"audit-{uuid4().hex[:8]}",
            task=Task(
                kind="multiclass",
                classes=real.task.classes,
                inputs=(TensorSpec(name="world", datatype=Datatype.FP32, shape=(1,)),),
            ),
            roster=Roster(version=1, members=tuple(self._members)),
            policy=policy,
        )
        (self._home / "federation.toml").write_text(federation_toml(made), "utf-8")
