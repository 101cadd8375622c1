"""The noise that a trusted aggregator adds to the votes of all, and what it charges for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.results import Chosen
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Noise
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.budget import Budget
from fi_stream.privacy.compatibility import refuse_aggregator
from fi_stream.privacy.selection import NoisyMax

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings, PrivacySection
    from fi_stream.federation.policy import NoisyMaxPolicy
    from fi_stream.privacy.draws import Source
    from fi_stream.values import MemberId

_BLOCK_ROWS = 1000
"""Rows paid for ahead, as a participant does."""


def central_noise(
    settings: MemberSettings, federation: Federation, source: Source | None = None
) -> CentralNoise | None:
    """What the policy wants of this aggregator; None where participants add the noise, or nobody.

    Raises:
        ConfigError: `[privacy]` does not go with the policy, or its ledger cannot be used.
    """
    refusal = refuse_aggregator(federation.policy, settings.privacy)
    if refusal is not None:
        raise ConfigError(f"[privacy] of {settings.id} and the policy of the federation: {refusal}")
    policy, privacy = federation.policy.noisy_max, settings.privacy
    if policy is None or privacy is None:
        return None
    return CentralNoise(policy, privacy, source)


class CentralNoise:
    """Noisy max and each client's budget at this aggregator; a context manager, for the file.

    Args:
        policy: which mechanism, and epsilon of a row.
        privacy: the aggregator's budget for each client, and its ledger.
        source: of the noise.
    """

    def __init__(
        self, policy: NoisyMaxPolicy, privacy: PrivacySection, source: Source | None = None
    ) -> None:
        if privacy.budget is None or privacy.ledger is None:
            raise ConfigError("[privacy] of an aggregator needs budget and ledger.")
        self._selection = policy.mechanism
        self._noisy_max = NoisyMax(policy.epsilon, policy.mechanism, source)
        cost = self._noisy_max.cost
        limit = self._noisy_max.limit(privacy.budget)
        self._budget = Budget(privacy.ledger, limit, cost.times(_BLOCK_ROWS))

    def __enter__(self) -> Self:
        self._budget.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.close()

    def choose(self, client: MemberId, votes: NDArray[np.int64]) -> Chosen | Refusal:
        """Charge, then noise: in this order, so that a crash never gives a label for nothing."""
        cost = self._noisy_max.cost.times(len(votes))
        try:
            spent = self._budget.spend(client, cost)
        except ConfigError as error:
            # The ledger cannot be written now: nothing is given that is not on record.
            return Refusal(Reason.OVERLOADED, str(error))
        if isinstance(spent, Refusal):
            return spent
        noise = Noise(
            mechanism=self._selection.value,
            epsilon=cost.value,
            delta=0.0,
            total=spent.total.value,
        )
        return Chosen(self._noisy_max.labels(votes), noise)
