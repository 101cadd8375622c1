"""The numbers that one process shows: kept as plain ones where they arise, read when asked for.

Names, kinds and labels are in one table, `FAMILIES`. Labels come out of closed lists or are members
of the roster; nothing that an event carries can become one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.secagg.store import Recorded
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

PREFIX: Final = "fi_stream_"

BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the buckets of a latency, in seconds; what is longer is in one more."""


MEMBER: Final = "participant"
"""The label whose values are those members of the roster that whoever shows it names."""


class Kind(StrEnum):
    """How a family's numbers move; the value is Prometheus's word."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """What one name stands for.

    With a label, `values` are all that it can have, or it is a member: `MEMBER`, and no values.
    """

    kind: Kind
    what: str
    label: str = ""
    values: tuple[str, ...] = ()


def _topics() -> tuple[str, ...]:
    topics = catalogue()
    used = (topics.queries, topics.responses, topics.proposals, topics.results)
    return tuple(topic.name for topic in used)


FAMILIES: Final[Mapping[str, Family]] = {
    "queries": Family(Kind.COUNTER, "Queries that were let in, or asked"),
    "responses": Family(Kind.COUNTER, "Responses of a participant", "kind", ("answer", "abstain")),
    "outcomes": Family(Kind.COUNTER, "Outcomes decided, or received", "outcome", tuple(Outcome)),
    "refusals": Family(Kind.COUNTER, "Refused events and abstentions", "reason", tuple(Reason)),
    "unanswered": Family(Kind.COUNTER, "A client's queries without a result by their deadline"),
    "dead_letters": Family(
        Kind.COUNTER, "Records refused as poison", "fate", ("written", "failed", "overflowed")
    ),
    "proposed": Family(Kind.COUNTER, "Sets of answers that a leader proposed"),
    "sums": Family(
        Kind.COUNTER, "A helper's decisions on proposed sets", "verdict", (*Recorded, "refused")
    ),
    "late_noise": Family(
        Kind.COUNTER, "Draws of noise that were not there in time, and were made while one waited"
    ),
    "answer_seconds": Family(
        Kind.HISTOGRAM, "From a query's append to the acknowledgement of its response"
    ),
    "settle_seconds": Family(
        Kind.HISTOGRAM, "From a query's making to the acknowledgement of its result"
    ),
    "result_seconds": Family(Kind.HISTOGRAM, "From asking a query to its result, at its client"),
    "participant_accuracy": Family(
        Kind.GAUGE, "Estimated part of a participant's last answers that are right", MEMBER
    ),
    "participant_overconfidence": Family(
        Kind.GAUGE, "How much surer a participant is than it is right, by that estimate", MEMBER
    ),
    "participant_abstained": Family(
        Kind.GAUGE, "Part of the last rows for which a participant was waited in vain", MEMBER
    ),
    "participant_drifting": Family(
        Kind.GAUGE, "1 while a participant agrees less with the others than it used to", MEMBER
    ),
    "open_queries": Family(Kind.GAUGE, "Queries that wait for answers"),
    "proposed_queries": Family(Kind.GAUGE, "Queries with a proposed set and no result yet"),
    "held_shares": Family(Kind.GAUGE, "Shares that a helper holds"),
    "orphans": Family(Kind.GAUGE, "Responses whose query has not come"),
    "waiting_events": Family(Kind.GAUGE, "Events whose grant has not come"),
    "lag_records": Family(Kind.GAUGE, "Records appended and not read yet", "topic", _topics()),
    "skipped_records": Family(Kind.COUNTER, "Records passed over that cannot be decoded"),
    "jumps": Family(Kind.COUNTER, "Times that offsets were missing where this process read on"),
    "moved_partitions": Family(Kind.COUNTER, "Partitions that got another leader"),
    "partitions": Family(Kind.GAUGE, "Partitions that this process holds"),
    "clock_skew_seconds": Family(Kind.GAUGE, "The broker's clock less this machine's"),
    "key_age_seconds": Family(Kind.GAUGE, "Age of the oldest key that this process seals under"),
    "last_poll_seconds": Family(Kind.GAUGE, "Time since this process last asked for records"),
    "broker_reachable": Family(Kind.GAUGE, "1 when the broker answered last time, else 0"),
    "ready": Family(Kind.GAUGE, "1 when /readyz says so, else 0"),
}

Numbers = Mapping[str, float]
"""A family's numbers by the value of its label; without a label, one number under ""."""


class Latency:
    """How long something took, counted in buckets."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def took(self, seconds: float) -> None:
        """Count one; less than nothing, between two clocks, is nothing."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += max(0.0, seconds)

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so long, by the upper end of each bucket."""
        ends = [*map(str, BOUNDS), "+Inf"]
        return list(zip(ends, map(float, accumulate(self._counts)), strict=True))

    @property
    def total(self) -> float:
        """All of them, in seconds."""
        return self._sum


class Board:
    """What a process shows, and where each number is read when somebody asks."""

    def __init__(self, about: Mapping[str, str]) -> None:
        self._about = dict(about)
        self._numbers: dict[str, Callable[[], Numbers]] = {}
        self._latencies: dict[str, Latency] = {}

    def show(self, name: str, read: Callable[[], float]) -> None:
        """Show a number of `FAMILIES` without a label."""
        self._numbers[name] = lambda: {"": read()}

    def show_each(self, name: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Show a number of `FAMILIES` for each value of its label."""
        self._numbers[name] = read

    def show_latency(self, name: str, latency: Latency) -> None:
        """Show a latency of `FAMILIES`."""
        self._latencies[name] = latency

    def collect(self) -> Iterator[Metric]:
        """Everything that is shown, as Prometheus's client library wants it."""
        # Takes 50 ms, and only a process with a port needs it.
        from prometheus_client import metrics_core  # noqa: PLC0415 -- see above

        yield metrics_core.InfoMetricFamily(PREFIX + "process", "Which process", self._about)
        for name, family in FAMILIES.items():
            if name in self._latencies:
                latency = self._latencies[name]
                yield metrics_core.HistogramMetricFamily(
                    PREFIX + name, family.what, latency.buckets(), latency.total
                )
            elif name in self._numbers:
                kind = (
                    metrics_core.CounterMetricFamily
                    if family.kind is Kind.COUNTER
                    else metrics_core.GaugeMetricFamily
                )
                labels = [family.label] if family.label else []
                metric = kind(PREFIX + name, family.what, labels=labels)
                for value, number in _closed(family, self._numbers[name]()):
                    metric.add_metric([value] if labels else [], number)
                yield metric

    def page(self) -> bytes:
        """Everything in Prometheus's text format, with this process's memory and CPU time."""
        from prometheus_client import (  # noqa: PLC0415 -- as in `collect`
            CollectorRegistry,
            ProcessCollector,
            generate_latest,
        )

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)


def _closed(family: Family, numbers: Numbers) -> Iterator[tuple[str, float]]:
    """Numbers under the values that the label can have; a counter starts at 0 for each."""
    if family.label == MEMBER:
        yield from sorted(numbers.items())
        return
    for value in family.values or ("",):
        if value in numbers:
            yield value, numbers[value]
        elif family.kind is Kind.COUNTER:
            yield value, 0
