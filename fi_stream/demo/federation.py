"""The demo's federation on disk: the same files that an operator would write by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.demo.data import task
from fi_stream.demo.model import INPUT, SOURCE
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Policy, Protection
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.writing import value
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.demo.levels import Group
    from fi_stream.demo.training import Trained

AGGREGATOR = "aggregator"
CLIENT = "client"
HELPER = "helper"


def participant_names(count: int) -> list[str]:
    """p1, p2, ..."""
    return [f"p{number}" for number in range(1, count + 1)]


def write_federation(directory: Path, bootstrap: str, trained: Trained, group: Group) -> None:
    """Write `federation.toml` and a directory for each member, with keys and model."""
    noise, sums = group.noise, Protection.SECAGG in group.counts
    participants = participant_names(len(trained.networks))
    roles = dict.fromkeys(participants, Role.PARTICIPANT)
    roles |= {AGGREGATOR: Role.AGGREGATOR, CLIENT: Role.CLIENT}
    roles |= {HELPER: Role.HELPER} if sums else {}
    network_of = dict(zip(participants, trained.networks, strict=True))
    examples_of = dict(zip(participants, trained.examples, strict=True))
    members = []
    for name, role in roles.items():
        identity = Identity.generate(name)
        identity.save(directory / name / "keys")
        card, examples = identity.card().model_dump(), examples_of.get(name)
        members.append(Member(**card, roles=frozenset({role}), examples=examples))
        text = _member_toml(name, role, bootstrap)
        if role is Role.PARTICIPANT:
            text += _MODEL + f"version = {value(network_of[name].version)}\n\n"
            text += noise.section(group.queries)
        elif role is Role.HELPER:
            text += '\n[helper]\nstore = "releases.sqlite"\n'
        (directory / name / "member.toml").write_text(text, "utf-8")
    for (name, network), images in zip(network_of.items(), trained.training, strict=True):
        network.save(directory / name / "weights.npz")
        np.savez(directory / name / "training.npz", allow_pickle=False, **{INPUT: images})
        (directory / name / "model.py").write_text(SOURCE, "utf-8")
    federation = Federation(
        name="demo",
        task=task(" and ".join(group.counts)),
        policy=Policy(
            protections=tuple(group.counts),
            rules=(group.rule,),
            form=noise.form,
            quorum=len(participants) // 2 + 1,
            secagg=noise.sums(len(participants)) if sums else None,
        ),
        roster=Roster(version=1, members=tuple(members)),
    )
    (directory / "federation.toml").write_text(federation_toml(federation), "utf-8")


_MODEL = """
[model]
factory = "model:load"
gives = "probabilities"
threads = 1
training = "training.npz"
"""


def _member_toml(name: str, role: Role, bootstrap: str) -> str:
    return (
        f"[member]\nid = {value(name)}\nrole = {value(role.value)}\n"
        'federation = "../federation.toml"\nkeys = "keys"\n\n'
        f"[kafka]\nbootstrap.servers = {value(bootstrap)}\n"
    )
