"""Whether the rules of a policy can be used with its roster, and those of one's own loaded here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.own import is_own, own_rule
from fi_stream.aggregation.robust import refuse_trim
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation


def refuse_rules(federation: Federation) -> str | None:
    """Why a rule leaves nothing of so many participants; None when all can be used."""
    if "trimmed_mean" not in federation.policy.rules:
        return None
    return refuse_trim(len(federation.participants))


def load_rules(federation: Federation, role: Role) -> None:
    """Load a federation's own rules where this role decides by them.

    An aggregator does, and under `blind` the client.

    Raises:
        ConfigError: one is not installed here, or breaks a law that all rules keep.
    """
    policy = federation.policy
    blind = role is Role.CLIENT and Protection.BLIND in policy.protections
    if role is Role.AGGREGATOR or blind:
        for name in filter(is_own, policy.rules):
            own_rule(name)
