"""An answer under `secagg`: weighed, charged, noised, and parted into two shares (DESIGN 9)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.aggregation.sums import contribution
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Answer
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.sums import HALF
from fi_stream.events.tensors import to_tensor
from fi_stream.privacy.mechanisms import GRID
from fi_stream.privacy.sums import SumNoise, refuse_own
from fi_stream.secagg.shares import Bound, new_seed, new_share_id, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import PrivacySection
    from fi_stream.privacy.budget import Budget
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.sealing.gate import Verified


@dataclass(frozen=True, slots=True)
class Parted:
    """An answer in two shares: the leader's is in `answer`, the helper's is `seed`."""

    answer: Answer
    share: bytes
    seed: bytes = field(repr=False)


class Parting:
    """Makes a participant's shares of each answer.

    Args:
        me: the participant.
        federation: one whose policy has secure sums.
        privacy: what the member allows.
        using: the member's budget, if it has one, and the source of its noise.

    Raises:
        ConfigError: the policy asks for more than the member allows.
    """

    def __init__(
        self,
        me: str,
        federation: Federation,
        privacy: PrivacySection,
        using: tuple[Budget | None, NoiseSource | None],
    ) -> None:
        policy = federation.policy.secagg
        if policy is None:
            raise ConfigError("the policy has no [policy.secagg]")
        if refusal := refuse_own(policy, privacy):
            raise ConfigError(f"[privacy] of {me} and the policy of the federation: {refusal}")
        self._me = me
        self._budget, source = using
        self._noise = SumNoise(policy, source)

    def part(
        self,
        event: Verified,
        prediction: NDArray[np.float64],
        own: NDArray[np.float64] | None = None,
    ) -> Parted | Refusal:
        """Charge, then noise: in this order, so that a crash never gives an answer for nothing.

        Args:
            event: the query.
            prediction: [rows, classes], each row on the simplex.
            own: [rows], the weights that the query's rule has a participant compute, if it does.
        """
        rows, noise = len(prediction), None
        share = event.federation.share_of(self._me)
        contributed = contribution(prediction, event.header.ask.rule, share, own)
        if self._budget is not None and self._noise.cost is not None:
            try:
                spent = self._budget.spend(event.header.sender, self._noise.cost.times(rows))
            except ConfigError as error:
                # The ledger cannot be written now: nothing is given that is not on record.
                return Refusal(Reason.OVERLOADED, str(error))
            if isinstance(spent, Refusal):
                return spent
            noise = self._noise.declare(rows, spent.total)
        seed = new_seed()
        ask = event.header.ask
        columns = contributed.shape[1]
        bound = Bound(event.header.sender, ask.query, event.digest, self._me, rows, columns)
        tensor = to_tensor(HALF, split(self._noise.release(contributed), seed, bound))
        if isinstance(tensor, Refusal):
            return tensor
        answer = Answer(form=HALF, outputs=(tensor,), scale=GRID, noise=noise)
        return Parted(answer, new_share_id(), seed)
