"""Where one pipeline runs: the broker, its topics, its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FETCHING: dict[str, Any] = {
    "fetch_max_wait_ms": 500,
    "fetch_min_bytes": 1,
    "fetch_max_bytes": 52_428_800,
    "max_partition_fetch_bytes": 2_097_152,
}
"""What every consumer of the bench is set to: what fi_stream sets."""

MOST_RECORDS = 1000
"""Records taken in one poll."""

LARGEST_BATCH = 1_000_000
"""Bytes that a producer puts in one batch."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of every process of the bench: a tiny model is not worth a second thread."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What each process of a pipeline is told on its command line."""

    bootstrap: str
    name: str
    folder: Path

    @property
    def queries(self) -> str:
        """The topic of the queries, where the pipeline is not ours."""
        return f"bench.{self.name}.queries"

    @property
    def responses(self) -> str:
        """The topic of the responses."""
        return f"bench.{self.name}.responses"

    @property
    def results(self) -> str:
        """The topic of the results."""
        return f"bench.{self.name}.results"

    @property
    def topics(self) -> tuple[str, str, str]:
        """All three."""
        return self.queries, self.responses, self.results


def environment() -> dict[str, str]:
    """Of every process that the bench starts."""
    return {**os.environ, **ONE_THREAD}
