"""What a participant's files say about noise and budgets, for the role and for its operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fi_stream.errors import ConfigError
from fi_stream.federation.roster import Role
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.budget import Budget
from fi_stream.privacy.building import build
from fi_stream.privacy.calibration import epsilon_of
from fi_stream.privacy.compatibility import refuse_aggregator, refuse_privacy
from fi_stream.privacy.selection import NoisyMax

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings, PrivacySection
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.privacy.mechanisms import NoiseMechanism

BLOCK_ROWS = 1000
"""Rows paid for ahead, so that the ledger is not written for each answer."""


class Priced(Protocol):
    """Noise that has a price: a participant's mechanism, or an aggregator's noisy max."""

    @property
    def cost(self) -> Charge | None:
        """Of one row."""

    def limit(self, epsilon: float) -> Charge | None:
        """A budget of that epsilon, in the unit of `cost`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What answers are charged, and against what: in the unit of one row's cost.

    `limit` is each client's, `limit_all` that of all clients together, None without one; `delta`
    is of one row, and what a sum of rho is shown at.
    """

    ledger: Path
    cost: Charge
    limit: Charge
    limit_all: Charge | None
    delta: float = 0.0

    def open(self) -> Budget:
        """The budget, in its ledger.

        Raises:
            ConfigError: the ledger cannot be used, or counts in another unit.
        """
        return Budget(self.ledger, self.limit, self.cost.times(BLOCK_ROWS), self.limit_all)

    def more(self, epsilon: float, limit: Charge, noise: Priced) -> int:
        """By how many units a limit grows when its epsilon does by that much; 0 for too little."""
        if limit.unit is Unit.NANO_EPSILON:
            return Charge.at_most(limit.unit, epsilon).amount
        raised = noise.limit(self.epsilon(limit) + epsilon)
        return 0 if raised is None else raised.amount - limit.amount

    def epsilon(self, total: Charge) -> float:
        """The epsilon of a sum of charges."""
        return epsilon_of(total, self.delta)


def privacy_of(settings: MemberSettings, federation: Federation) -> PrivacySection:
    """The `[privacy]` of a participant.

    Raises:
        ConfigError: there is none, or it does not go with the policy.
    """
    privacy = settings.privacy
    if privacy is None:
        raise ConfigError(
            f"{settings.directory / 'member.toml'}: a participant needs a [privacy] section; "
            "`fi-stream init DIR` writes an example."
        )
    refusal = refuse_privacy(federation.policy, privacy)
    if refusal is not None:
        raise ConfigError(f"[privacy] of {settings.id} and the policy of the federation: {refusal}")
    return privacy


def mechanism_of(
    privacy: PrivacySection,
    federation: Federation,
    models: int = 1,
    source: NoiseSource | None = None,
) -> NoiseMechanism:
    """The noise that a participant adds; arguments and errors are those of `build`."""
    classes = len(federation.task.classes)
    return build(privacy, federation.policy.form, classes, models, source)


def priced(settings: MemberSettings, federation: Federation) -> tuple[str, Priced, PrivacySection]:
    """What a member charges for, by name: as a participant, or as an aggregator that adds noise.

    Raises:
        ConfigError: its `[privacy]` is missing or does not go with the policy, or it is neither.
    """
    entry, central = federation.member(settings.id), federation.policy.noisy_max
    roles = frozenset() if entry is None else entry.roles
    if Role.AGGREGATOR in roles and central is not None:
        refusal = refuse_aggregator(federation.policy, settings.privacy)
        if refusal is not None or settings.privacy is None:
            raise ConfigError(f"[privacy] of {settings.id} and the policy: {refusal}")
        return central.mechanism.value, NoisyMax(central.epsilon), settings.privacy
    if Role.PARTICIPANT not in roles:
        raise ConfigError(
            f"{settings.id} charges nobody: budgets are those of participants, and of aggregators "
            "under [policy.noisy_max]."
        )
    privacy = privacy_of(settings, federation)
    return privacy.mechanism.value, mechanism_of(privacy, federation), privacy


def terms_of(privacy: PrivacySection, noise: Priced) -> Terms | None:
    """What its answers are charged; None without noise, for then nothing is promised."""
    if noise.cost is None or privacy.budget is None or privacy.ledger is None:
        return None
    limit = noise.limit(privacy.budget)
    if limit is None:
        return None
    limit_all = None if privacy.budget_all is None else noise.limit(privacy.budget_all)
    return Terms(privacy.ledger, noise.cost, limit, limit_all, privacy.delta or 0.0)
