"""What a participant's files say about noise and budgets, for the role and for its operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.privacy.budget import Budget
from fi_stream.privacy.compatibility import first_refusal
from fi_stream.privacy.mechanisms import build

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings, PrivacySection
    from fi_stream.privacy.accountant import Charge
    from fi_stream.privacy.mechanisms import NoiseMechanism

BLOCK_ROWS = 1000
"""Rows paid for ahead, so that the ledger is not written for each answer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What answers are charged, and against what: in the unit of one row's cost.

    `limit` is each client's, `limit_all` that of all clients together, None without one.
    """

    ledger: Path
    cost: Charge
    limit: Charge
    limit_all: Charge | None

    def open(self) -> Budget:
        """The budget, in its ledger.

        Raises:
            ConfigError: the ledger cannot be used, or counts in another unit.
        """
        return Budget(self.ledger, self.limit, self.cost.times(BLOCK_ROWS), self.limit_all)


def privacy_of(settings: MemberSettings, federation: Federation) -> PrivacySection:
    """The `[privacy]` of a participant.

    Raises:
        ConfigError: there is none, or it does not go with the policy.
    """
    privacy, policy = settings.privacy, federation.policy
    if privacy is None:
        raise ConfigError(
            f"{settings.directory / 'member.toml'}: a participant needs a [privacy] section; "
            "`fi-stream init DIR` writes an example."
        )
    refusal = first_refusal(policy.form, policy.rules, privacy.mechanism, policy.protections)
    if refusal is not None:
        raise ConfigError(f"[privacy] of {settings.id} and the policy of the federation: {refusal}")
    return privacy


def mechanism_of(privacy: PrivacySection, federation: Federation) -> NoiseMechanism:
    """The noise that a participant adds.

    Raises:
        ConfigError: a parameter is out of range, or OpenDP is not installed.
    """
    classes = len(federation.task.classes)
    form = federation.policy.form
    return build(privacy.mechanism, form, classes, privacy.epsilon, privacy.delta)


def terms_of(privacy: PrivacySection, noise: NoiseMechanism) -> Terms | None:
    """What its answers are charged; None without noise, for then nothing is promised."""
    if noise.cost is None or privacy.budget is None or privacy.ledger is None:
        return None
    limit = noise.limit(privacy.budget)
    if limit is None:
        return None
    limit_all = None if privacy.budget_all is None else noise.limit(privacy.budget_all)
    return Terms(privacy.ledger, noise.cost, limit, limit_all)
