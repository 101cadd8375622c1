"""The noise that a trusted aggregator adds to the votes of all, and what it charges for it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fi_stream.aggregation.results import Chosen, result_payloads
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Noise
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.budget import Budget
from fi_stream.privacy.compatibility import refuse_aggregator
from fi_stream.privacy.selection import NoisyMax
from fi_stream.roles.accounts import BLOCK_ROWS
from fi_stream.roles.noise import noise_drawn_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Settled
    from fi_stream.events.payloads import ResultPayload
    from fi_stream.federation.member import PrivacySection
    from fi_stream.federation.policy import NoisyMaxPolicy
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.seat import Seat
    from fi_stream.values import MemberId


@contextmanager
def central_noise(seat: Seat, board: Board) -> Iterator[CentralNoise | None]:
    """What the policy wants of this aggregator; None where participants add the noise, or nobody.

    Args:
        seat: the aggregator's.
        board: shows how much noise was not there in time.

    Raises:
        ConfigError: `[privacy]` does not go with the policy, or its ledger cannot be used.
    """
    settings, policy = seat.settings, seat.federation.policy
    refusal = refuse_aggregator(policy, settings.privacy)
    if refusal is not None:
        raise ConfigError(f"[privacy] of {settings.id} and the policy of the federation: {refusal}")
    if policy.noisy_max is None or settings.privacy is None:
        yield None
        return
    with (
        noise_drawn_ahead(settings, board) as source,
        CentralNoise(policy.noisy_max, settings.privacy, source) as central,
    ):
        yield central


async def payloads_of(
    settled: Sequence[Settled], central: CentralNoise | None
) -> list[ResultPayload]:
    """What to say of each query; charges and noise off the loop, for they touch the disk."""
    if central is None:
        return result_payloads(settled)
    return await asyncio.to_thread(result_payloads, settled, central)


class CentralNoise:
    """Noisy max and each client's budget at this aggregator; a context manager, for the file.

    Args:
        policy: which mechanism, and epsilon of a row.
        privacy: the aggregator's budget for each client, and its ledger.
        source: of the noise.
    """

    def __init__(
        self, policy: NoisyMaxPolicy, privacy: PrivacySection, source: NoiseSource | None = None
    ) -> None:
        if privacy.budget is None or privacy.ledger is None:
            raise ConfigError("[privacy] of an aggregator needs budget and ledger.")
        self._selection = policy.mechanism
        self._noisy_max = NoisyMax(policy.epsilon, policy.mechanism, source)
        cost = self._noisy_max.cost
        limit = self._noisy_max.limit(privacy.budget)
        of_all = privacy.budget_all
        limit_all = None if of_all is None else self._noisy_max.limit(of_all)
        self._budget = Budget(privacy.ledger, limit, cost.times(BLOCK_ROWS), limit_all)

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
