"""The one place that reads the time: a port, the system's clock, and a manual one for tests.

The broker's clock is estimated from acknowledgements that carry an append time (DESIGN 8.1).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from fi_stream.values import BrokerMillis, Instant, Millis


class Clock(Protocol):
    """Where the time comes from."""

    def wall(self) -> BrokerMillis:
        """Milliseconds since 1970 by this machine."""

    def monotonic(self) -> Instant:
        """Seconds that never step back."""


class SystemClock:
    """This machine's clocks."""

    def wall(self) -> BrokerMillis:
        """Milliseconds since 1970."""
        return BrokerMillis(time.time_ns() // 1_000_000)

    def monotonic(self) -> Instant:
        """Seconds of the monotonic clock."""
        return Instant(time.monotonic())


@dataclass
class ManualClock:
    """A clock that moves only when told; shipped for tests and replays."""

    millis: int = 1_700_000_000_000
    seconds: float = 1_000.0

    def wall(self) -> BrokerMillis:
        """Milliseconds since 1970, as set."""
        return BrokerMillis(self.millis)

    def monotonic(self) -> Instant:
        """Seconds, as advanced."""
        return Instant(self.seconds)

    def advance(self, millis: float) -> None:
        """Let time pass on both clocks."""
        self.millis += round(millis)
        self.seconds += millis / 1000

    def step(self, millis: int) -> None:
        """Step the wall clock alone, as an operator or NTP does."""
        self.millis += millis


@dataclass
class BrokerClock:
    """Broker time as this process best knows it: local time plus a clamped, measured offset.

    The reading is anchored to the monotonic clock, so that a step of the wall clock between two
    measurements moves no deadline.
    """

    clock: Clock
    max_skew: Millis
    offset: float | None = None
    _wall: float = field(init=False)
    _mono: float = field(init=False)

    def __post_init__(self) -> None:
        self._wall = float(self.clock.wall())
        self._mono = self.clock.monotonic()

    def now(self) -> BrokerMillis:
        """The broker's time, estimated."""
        return BrokerMillis(round(self._local() + self._clamped()))

    def monotonic(self) -> Instant:
        """The local monotonic clock, for timers."""
        return self.clock.monotonic()

    def local_time_of(self, at: BrokerMillis) -> Instant:
        """Turn a moment in broker time into the local monotonic clock, once, on arrival."""
        return Instant(self.clock.monotonic() + (at - self.now()) / 1000)

    def acknowledged(self, sent: Instant, appended: BrokerMillis) -> None:
        """Learn from one acknowledgement: the append fell between `sent` and now.

        So much is certain, and no more: one that took long, because the machine or the broker stood
        still, says little, and must move neither what quicker ones have shown nor, before them, a
        clock that is right.
        """
        least = appended - self._local()
        most = appended + 1 - self._local_at(sent)  # append times are cut to milliseconds
        self.offset = max(least, min(most, self.offset or 0.0))

    @property
    def skewed(self) -> bool:
        """Whether the measured offset is beyond the clamp: this machine's clock is wrong."""
        return abs(self.offset or 0.0) > self.max_skew

    def _local(self) -> float:
        return self._local_at(self.clock.monotonic())

    def _local_at(self, moment: float) -> float:
        return self._wall + (moment - self._mono) * 1000

    def _clamped(self) -> float:
        return max(-self.max_skew, min(self.max_skew, self.offset or 0.0))
