"""Noisy max: which class has the most votes, told with one epsilon however many voted (DESIGN 10).

Each voter adds one vote to one class. Another answer of one voter takes a vote from one class and
gives it to another, so no class changes by more than one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.events.payloads import Noise
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Form, Selection
from fi_stream.privacy import calibration
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.draws import Places
from fi_stream.privacy.mechanisms import Released
from fi_stream.privacy.pool import Pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.privacy.draws import NoiseSource


class NoisyMax:
    """Picks a class by its votes, the most probably the one with the most.

    A class that is g votes behind the first is picked less often the larger `g * epsilon / 2` is.
    Permute-and-flip (McKenna and Sheldon 2020) goes through the classes in random order and takes
    one with probability exp(-g epsilon / 2); the exponential mechanism (McSherry and Talwar 2007)
    picks one with a probability that is proportional to that.

    Args:
        epsilon: of one row, pure: no delta.
        selection: which of the two; permute-and-flip is never worse.
        source: of the noise.

    Raises:
        ConfigError: epsilon is out of range, or OpenDP is not installed.
    """

    def __init__(
        self,
        epsilon: float,
        selection: Selection = Selection.PERMUTE_AND_FLIP,
        source: NoiseSource | None = None,
    ) -> None:
        calibration.check_epsilon(epsilon)
        self.selection = selection
        self.scale = calibration.noisy_max_scale(selection, epsilon)
        self.cost = Charge.at_least(Unit.NANO_EPSILON, epsilon)
        self._source = source or Pools()

    def limit(self, epsilon: float) -> Charge:
        """A budget of that epsilon, in nano-epsilon."""
        return Charge.at_most(Unit.NANO_EPSILON, epsilon)

    def labels(self, votes: NDArray[np.int64]) -> NDArray[np.int64]:
        """A class for each row. Charge first.

        Args:
            votes: [rows, classes], whole votes.

        Returns:
            int64 [rows].
        """
        order = np.argsort(-votes, axis=1, kind="stable")
        ordered = np.take_along_axis(votes, order, axis=1)
        alike: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, pattern in enumerate(ordered.tolist()):
            alike[tuple(pattern)].append(row)
        labels = np.empty(len(votes), dtype=np.int64)
        for pattern, rows in alike.items():
            kind = Places(self.selection, self.scale, pattern)
            labels[rows] = order[rows, self._source.take(kind, len(rows))]
        return labels


class ShardVotes:
    """Noisy max on the votes of one participant's models, each trained on its own part of the data.

    One example of the participant's training data is in one part, and so in one vote: that is the
    unit which epsilon protects, and not the participant's whole answer.

    Args:
        models: how many vote.
        epsilon: of one row.
        source: of the noise.

    Raises:
        ConfigError: epsilon is out of range, or OpenDP is not installed.
    """

    form = Form.LABEL

    def __init__(self, models: int, epsilon: float, source: NoiseSource | None = None) -> None:
        self._models = models
        self._noisy_max = NoisyMax(epsilon, source=source)
        self.cost = self._noisy_max.cost

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """Labels, int64 [rows], of shares of the votes [rows, classes]."""
        votes = np.rint(probabilities * self._models).astype(np.int64)
        return Released(self.form, self._noisy_max.labels(votes))

    def limit(self, epsilon: float) -> Charge:
        """A budget of that epsilon, in nano-epsilon."""
        return self._noisy_max.limit(epsilon)

    def declare(self, rows: int, total: Charge) -> Noise:
        """The epsilon of `rows` rows, and of all that was charged."""
        return Noise(
            mechanism=Mechanism.NOISY_MAX.value,
            epsilon=self.cost.times(rows).value,
            delta=0.0,
            total=total.value,
        )
