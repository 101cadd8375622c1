"""What a load test measures: counts, and latencies in HdrHistograms; what it reports of them."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fi_stream.events.payloads import Outcome

UNKNOWN: Final = "unknown"
"""Where queries without a result by their deadline are counted, beside the outcomes."""

_LONGEST_US: Final = 3_600_000_000
_DIGITS: Final = 3


class Histogram:
    """Times up to an hour, to three digits, in fixed memory; longer ones count as an hour.

    Raises:
        ConfigError: the package hdrhistogram is not installed.
    """

    def __init__(self) -> None:
        try:
            made = import_module("hdrh.histogram").HdrHistogram
        except ImportError as error:
            raise ConfigError(
                "a load test needs the `load` extra: pip install 'fi-stream[load]'."
            ) from error
        self._recorded: Any = made(1, _LONGEST_US, _DIGITS)

    def record(self, seconds: float) -> None:
        """Take in one time; below zero counts as zero."""
        self._recorded.record_value(min(max(0, round(seconds * 1e6)), _LONGEST_US))

    def millis(self, percentiles: Iterable[float]) -> dict[str, float | None]:
        """Percentiles in milliseconds, named p50, p999; None when nothing was recorded."""
        return {
            "p" + f"{percentile:g}".replace(".", ""): self._at(percentile)
            for percentile in percentiles
        }

    def longest_ms(self) -> float | None:
        """The longest time in milliseconds; None when nothing was recorded."""
        return self._at(100.0)

    def _at(self, percentile: float) -> float | None:
        if not self._recorded.get_total_count():
            return None
        return float(self._recorded.get_value_at_percentile(percentile)) / 1000


class Meter:
    """The counts and times of one load test.

    `sent`, `not_sent` and `outcomes` count queries; `seconds` is how long queries were being sent.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.not_sent = 0
        self.seconds = 0.0
        self.outcomes: Counter[str] = Counter()
        self._latency = Histogram()
        self._lag = Histogram()

    @property
    def in_flight(self) -> int:
        """Queries that were sent and are not settled."""
        return self.sent - self.outcomes.total()

    @property
    def answered(self) -> int:
        """Queries that got a result, whatever its outcome."""
        return self.outcomes.total() - self.outcomes[UNKNOWN]

    def sent_one(self, lag: float) -> None:
        """Count a query that went out `lag` seconds after it should have."""
        self.sent += 1
        self._lag.record(lag)

    def settled(self, outcome: Outcome | None, latency: float) -> None:
        """Count what became of a query, `latency` seconds after it should have gone out.

        One without a result (None) is counted, and has no latency.
        """
        self.outcomes[UNKNOWN if outcome is None else outcome.value] += 1
        if outcome is not None:
            self._latency.record(latency)

    def report(self, rate: float, clients: int) -> dict[str, Any]:
        """Plain values for JSON; null, never NaN, for a time of which nothing is known.

        `duration_s` is how long queries were being sent, and `queries_per_s` how many really were
        in each second of it. A query still in flight when a test was cut short is in no outcome.
        """
        latency = self._latency.millis((50, 90, 99, 99.9)) | {"max": self._latency.longest_ms()}
        return {
            "rate": rate,
            "duration_s": round(self.seconds, 3),
            "clients": clients,
            "sent": self.sent,
            "not_sent": self.not_sent,
            "outcomes": dict(self.outcomes),
            "latency_ms": latency,
            "send_lag_ms": self._lag.millis((50, 99)),
            "queries_per_s": round(self.sent / self.seconds, 3) if self.seconds > 0 else None,
        }
