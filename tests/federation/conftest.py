"""A small federation on disk, and a way to spoil its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Policy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

ROLES = {
    "p1": Role.PARTICIPANT,
    "p2": Role.PARTICIPANT,
    "joiner": Role.AGGREGATOR,
    "asker": Role.CLIENT,
}

MEMBER = """\
[member]
id = "p1"
federation = "federation.toml"
keys = "keys/p1"

[kafka]
bootstrap.servers = "127.0.0.1:9092"
"sasl.password" = "open-sesame"

[model]
factory = "model:load"
gives = "logits"

[privacy]
mechanism = "gaussian"
epsilon = 4.0
delta = 1e-6
budget = 100.0
ledger = "budget.ledger"
"""


@pytest.fixture(scope="session")
def identities() -> dict[str, Identity]:
    return {name: Identity.generate(name) for name in ROLES}


@pytest.fixture(scope="session")
def federation(identities: dict[str, Identity]) -> Federation:
    task = Task.model_validate(
        {
            "kind": "multiclass",
            "classes": ["cat", "dog"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}],
        }
    )
    members = tuple(
        Member(**identities[name].card().model_dump(), roles=frozenset({role}))
        for name, role in ROLES.items()
    )
    return Federation(
        name="pets",
        task=task,
        policy=Policy(quorum=2, rules=("soft",)),
        roster=Roster(version=3, members=members),
    )


@pytest.fixture
def home(tmp_path: Path, identities: dict[str, Identity], federation: Federation) -> Path:
    """A directory with `federation.toml`, the `member.toml` of p1, and everybody's keys."""
    (tmp_path / "federation.toml").write_text(federation_toml(federation))
    (tmp_path / "member.toml").write_text(MEMBER)
    for name, identity in identities.items():
        identity.save(tmp_path / "keys" / name)
    return tmp_path
