"""What a demo run showed, as one value: the table is drawn from it, and its JSON is fixed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fi_stream.privacy.guarantee import UNIT, Guarantee, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.federation.policy import Protection


@dataclass(frozen=True, slots=True)
class Alone:
    """One participant without the federation: its accuracy, and how many examples it trained on."""

    accuracy: float
    examples: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of the same queries answered rightly.

    `federation` is what the client received, a query without a label counting as wrong;
    `noiseless` is the same models under the best rule, without noise and deadlines.
    """

    federation: float
    noiseless: float
    participants: Mapping[str, Alone]

    @property
    def best(self) -> str:
        """The participant that is best alone; the first of several."""
        return max(self.participants, key=lambda name: self.participants[name].accuracy)

    @property
    def best_single(self) -> float:
        """The accuracy of the best participant alone."""
        return self.participants[self.best].accuracy


@dataclass(frozen=True, slots=True)
class Different:
    """What participants whose data are very different read, computed without a federation.

    `alpha` is their Dirichlet concentration, `best_single` the accuracy of the one that is best
    alone; `by_rule` is that of all together, without noise, the best rule last.
    """

    alpha: float
    best_single: float
    by_rule: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Counts:
    """Queries by outcome, and refused events and abstained answers by reason."""

    queries: int
    outcomes: Mapping[str, int]
    refusals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """From a query's sending to its result in milliseconds; None when no result came.

    `first_answer_s` is from the command to the first result, in seconds.
    """

    p50: float | None
    p99: float | None
    first_answer_s: float | None


@dataclass(frozen=True, slots=True)
class Level:
    """What the first `queries` of them came to under one level of protection.

    `p50` and `p99` are milliseconds, `size` the bytes of all events of one query; None is what is
    not known.
    """

    queries: int
    accuracy: float
    p50: float | None
    p99: float | None
    size: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the demo.

    `guarantee` is that of the last result, which counts all before it; None when nobody answered.
    `levels` compares the protections, the one that was asked for first; all else is about that one.
    `broker` says which kind of broker it was. `different` is not about this run: None without it.
    """

    counts: Counts
    accuracy: Accuracy
    latency: Latency
    guarantee: Guarantee | None
    levels: Mapping[Protection, Level]
    broker: str
    different: Different | None = None

    @property
    def protection(self) -> Protection:
        """The level that was asked for."""
        return next(iter(self.levels))

    def to_dict(self) -> dict[str, Any]:
        """The report for machines; null is what is not known, "infinite" an infinite epsilon."""
        given = self.guarantee
        return {
            "queries": self.counts.queries,
            "outcomes": dict(self.counts.outcomes),
            "accuracy": {
                "federation": _number(self.accuracy.federation),
                "noiseless": _number(self.accuracy.noiseless),
                "best_single": _number(self.accuracy.best_single),
                "participants": {
                    name: _number(alone.accuracy)
                    for name, alone in self.accuracy.participants.items()
                },
            },
            "latency_ms": {"p50": _number(self.latency.p50), "p99": _number(self.latency.p99)},
            "first_answer_s": _number(self.latency.first_answer_s),
            "epsilon": {
                "per_query": plain(given.epsilon_query) if given else None,
                "total": plain(given.epsilon_total) if given else None,
                "unit": given.unit if given else UNIT,
                "delta": given.delta if given else None,
            },
            "protection": self.protection.value,
            "protections": {
                each.value: {
                    "queries": level.queries,
                    "accuracy": _number(level.accuracy),
                    "latency_ms": {"p50": _number(level.p50), "p99": _number(level.p99)},
                    "bytes_of_a_query": _number(level.size),
                }
                for each, level in self.levels.items()
            },
            "broker": self.broker,
            "very_different_data": None
            if self.different is None
            else {
                "alpha": self.different.alpha,
                "best_single": _number(self.different.best_single),
                "rules": {name: _number(one) for name, one in self.different.by_rule.items()},
            },
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def _number(value: float | None) -> float | None:
    """What is not known is null: JSON has no NaN."""
    return None if value is None or math.isnan(value) else round(value, 6)
