"""The levels of protection that the demo compares: the same queries, asked under each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.demo.offline import accuracy
from fi_stream.demo.report import Level
from fi_stream.errors import ConfigError
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fi_stream.roles.result import Result

OFFERED = (Protection.TRUSTED, Protection.BLIND)
"""The levels that the demo's federation allows; `secagg` is not there yet."""

COMPARED = 100
"""Queries under each level that was not asked for; the one that was has them all."""


def offered(name: str) -> Protection:
    """The level of that name.

    Raises:
        ConfigError: there is none, or it is not there yet.
    """
    found = next((each for each in OFFERED if each == name), None)
    if found is None:
        known = name in {each.value for each in Protection}
        why = "is not there yet" if known else "is no level of protection"
        raise ConfigError(f"--protection {name} {why}: use {' or '.join(OFFERED)}.")
    return found


def shares(first: Protection, queries: int) -> Mapping[Protection, int]:
    """How many of the queries are asked under each level, the one that was asked for first."""
    others = {each: min(COMPARED, queries) for each in OFFERED if each is not first}
    return {first: queries, **others}


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
