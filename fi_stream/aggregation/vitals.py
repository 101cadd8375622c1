"""What a window says of each participant's health, looked at from time to time while it fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.drift import Drift
from fi_stream.aggregation.health import Observed, agreement, health
from fi_stream.aggregation.past import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True)
class Vital:
    """One participant now; None where it said nothing that would tell.

    `accuracy` and `overconfidence` are estimates of the window (`health.Health`), `abstained` is
    the part of the rows for which it was waited in vain. `drifting` is the alarm (`drift`).
    """

    accuracy: float | None
    overconfidence: float | None
    abstained: float | None
    drifting: bool


class Vitals:
    """The participants of one task; remembers of each how often it used to agree.

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._drifts: dict[MemberId, Drift] = {}

    def look(
        self, members: Sequence[MemberId], said: NDArray[np.float64], fresh: int
    ) -> Mapping[MemberId, Vital]:
        """How the members do.

        Args:
            members: of the window; who is not among them is forgotten.
            said: [kinds, members, rows], as `past` keeps it.
            fresh: how many of the last rows are new since the last look.
        """
        labels = np.where(said[Kind.LABEL] >= 0, said[Kind.LABEL], -1).astype(np.int64)
        waited = np.isfinite(said[Kind.LABEL])
        window = Observed(labels, said[Kind.SURE], said[Kind.LATENCY], waited)
        found = health(window, self._classes)
        agreed = agreement(labels, self._classes)[:, max(0, labels.shape[1] - fresh) :]
        self._drifts = {member: self._drifts.get(member) or Drift() for member in members}
        return {
            member: Vital(
                one.accuracy,
                one.overconfidence,
                one.abstained,
                self._drifting(member, agreed[at]),
            )
            for at, (member, one) in enumerate(zip(members, found, strict=True))
        }

    def _drifting(self, member: MemberId, agreed: NDArray[np.float64]) -> bool:
        drift = self._drifts[member]
        for one in agreed[np.isfinite(agreed)].tolist():
            drift.answered(agreed=one > 0)
        return drift.alarmed
