"""Whether the rules of a policy can be used with its roster, and those of one's own loaded here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.evidence import EQUAL, SIZED, WEIGHTED
from fi_stream.aggregation.own import is_own, own_rule
from fi_stream.aggregation.robust import refuse_trim
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation


def refuse_rules(federation: Federation) -> str | None:
    """Why a rule cannot be used with these participants; None when all can."""
    wanted = SIZED & set(federation.policy.rules)
    unknown = sorted(federation.participants - federation.sizes.keys())
    if wanted and unknown:
        return (
            f"rule {min(wanted)!r} weighs by training examples, and nobody says how many "
            f"{', '.join(unknown)} has: write examples = ... under each participant's [[members]]"
        )
    share = federation.policy.weight_share
    if share is not None and not (WEIGHTED.keys() - EQUAL) & set(federation.policy.rules):
        return (
            f"weight_share = {share:g} bounds nothing, because all count the same under "
            f"{' and '.join(federation.policy.rules)}: add a rule that weighs, such as entropy, or "
            "remove weight_share"
        )
    if "trimmed_mean" in federation.policy.rules:
        return refuse_trim(len(federation.participants))
    return None


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
