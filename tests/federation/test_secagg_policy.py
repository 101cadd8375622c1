"""What must be so in a federation that has secure sums, and must not in one that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from members import TASK

from fi_stream.errors import ConfigError
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml, load_as, load_federation
from fi_stream.federation.policy import Policy, Protection, SecaggPolicy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

ROLES: dict[str, set[Role]] = {
    "p1": {Role.PARTICIPANT},
    "p2": {Role.PARTICIPANT},
    "agg": {Role.AGGREGATOR},
    "alice": {Role.CLIENT},
    "helper": {Role.HELPER},
}
IDENTITIES = {name: Identity.generate(name) for name in (*ROLES, "other")}
SUMS: dict[str, Any] = {
    "protections": (Protection.SECAGG,),
    "secagg": SecaggPolicy(k_min=2),
}


def federation(roles: dict[str, set[Role]] | None = None, **policy: Any) -> Federation:
    members = tuple(
        Member(**IDENTITIES[name].card().model_dump(), roles=frozenset(held))
        for name, held in (roles or ROLES).items()
    )
    roster = Roster(version=1, members=members)
    return Federation(name="test", task=TASK, roster=roster, policy=Policy(**{**SUMS, **policy}))


def test_a_federation_with_secure_sums_reads_back_as_it_was(tmp_path: Path) -> None:
    secagg = SecaggPolicy(k_min=2, epsilon=4.0, delta=1e-5)
    made = federation(secagg=secagg, protections=tuple(Protection))
    (tmp_path / "federation.toml").write_text(federation_toml(made))
    assert load_federation(tmp_path / "federation.toml") == made


@pytest.mark.parametrize(
    ("roles", "policy", "why"),
    [
        ({k: v for k, v in ROLES.items() if k != "helper"}, {}, "none has the role helper"),
        ({**ROLES, "other": {Role.HELPER}}, {}, "all have the role helper"),
        ({**ROLES, "helper": {Role.HELPER, Role.AGGREGATOR}}, {}, "aggregator and helper"),
        (ROLES, {"secagg": None}, "policy.secagg"),
        (ROLES, {"protections": (Protection.TRUSTED,)}, "policy.secagg"),
        (ROLES, {"secagg": SecaggPolicy(k_min=3)}, "k_min"),
    ],
    ids=["no helper", "two helpers", "both roles", "no section", "section in vain", "k_min"],
)
def test_what_would_not_be_secure_is_refused(
    roles: dict[str, set[Role]], policy: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        federation(roles, **policy)


def test_a_federation_without_secure_sums_needs_no_helper() -> None:
    without = {name: held for name, held in ROLES.items() if name != "helper"}
    made = federation(without, protections=(Protection.TRUSTED,), secagg=None)
    assert made.least_answers == 1


def test_as_many_answers_as_quorum_and_k_min_both_want_are_needed() -> None:
    assert federation(quorum=1).least_answers == 2
    assert federation(quorum=2).least_answers == 2


def test_a_helper_without_its_store_is_told_what_to_add(tmp_path: Path) -> None:
    (tmp_path / "federation.toml").write_text(federation_toml(federation()))
    text = (
        '[member]\nid = "helper"\nfederation = "federation.toml"\nkeys = "keys"\n'
        '[kafka]\nbootstrap.servers = "localhost:9"\n'
    )
    (tmp_path / "member.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"\[helper\].*store"):
        load_as(Role.HELPER, tmp_path / "member.toml")
    (tmp_path / "member.toml").write_text(text + '[helper]\nstore = "releases.sqlite"\n')
    settings, _ = load_as(Role.HELPER, tmp_path / "member.toml")
    assert settings.helper is not None
    assert settings.helper.store == tmp_path / "releases.sqlite"
