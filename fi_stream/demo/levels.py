"""The levels of protection that the demo compares: the same queries, asked under each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.demo.noise import Noise
from fi_stream.demo.offline import accuracy
from fi_stream.demo.report import Level
from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Form, Protection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fi_stream.roles.result import Result

WITHOUT_NOISE = "competence_density"
"""The best rule for exact probabilities: of 300 digits it reads 97 or 98 % at alpha 0.5."""

COMPARED = 60
"""Queries under each level that was not asked for; the one that was has them all."""


@dataclass(frozen=True, slots=True)
class Group:
    """Levels that one federation allows, because they go with the same noise.

    `counts` is how many of the queries are asked under each, in this order.
    """

    counts: Mapping[Protection, int]
    noise: Noise

    @property
    def rule(self) -> str:
        """The best rule that its noise allows.

        Under noise a weight below 1 would leave less of an answer and as much noise.
        """
        if self.noise.form is Form.LABEL:
            return "hard"
        if self.noise.epsilon is not None:
            return "soft"
        return WITHOUT_NOISE

    @property
    def queries(self) -> int:
        """How many are asked in all."""
        return sum(self.counts.values())


def level_of(name: str) -> Protection:
    """The level of that name.

    Raises:
        ConfigError: there is none.
    """
    found = next((each for each in Protection if each == name), None)
    if found is None:
        raise ConfigError(f"--protection {name} is no level: use {', '.join(Protection)}.")
    return found


def groups(
    first: Protection, epsilon: float | None, queries: int, participants: int
) -> list[Group]:
    """The federations to run one after the other, the one with the `first` level first.

    Without noise one has all levels. Labels under randomised response, the best noise where each
    answer is read, do not add up to a sum, so that with noise secure sums are a federation of their
    own. One participant has nobody to hide among: then there are none.

    Raises:
        ConfigError: secure sums are asked for, and there is one participant.
    """
    if participants == 1 and first is Protection.SECAGG:
        raise ConfigError("--protection secagg adds up answers: set --participants to 2 or more.")
    levels = [each for each in Protection if each is not Protection.SECAGG or participants > 1]
    levels.sort(key=lambda each: each is not first)
    counts = {each: queries if each is first else min(COMPARED, queries) for each in levels}
    if epsilon is None:
        return [Group(counts, Noise(None, summed=False))]
    kinds = {each: Noise(epsilon, summed=each is Protection.SECAGG) for each in levels}
    return [
        Group({each: counts[each] for each in levels if kinds[each] == noise}, noise)
        for noise in dict.fromkeys(kinds.values())
    ]


def labels(results: Sequence[Result]) -> NDArray[np.int64]:
    """The label of each query; -1 where there is none."""
    return np.array([-1 if one.decided is None else one.decided.labels[0] for one in results])


def latency(results: Sequence[Result]) -> tuple[float | None, float | None]:
    """Milliseconds within which half of the results came, and 99 %; None when none did."""
    taken = [one.latency_ms for one in results if one.outcome is not None]
    if not taken:
        return None, None
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def level(results: Sequence[Result], truth: NDArray[np.int64], size: float | None) -> Level:
    """What one level came to; `size` is in bytes."""
    right = accuracy(labels(results), truth[: len(results)])
    return Level(len(results), right, *latency(results), size)
