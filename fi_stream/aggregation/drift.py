"""An alarm when a participant no longer agrees with the others as it used to: CUSUM."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is normal, and what is to be found.

    The first `baseline` answers say how often a participant agrees. A drop to `falls_to` of that is
    to be found. The alarm is at a log likelihood ratio above `threshold`: were the usual agreement
    known exactly, a false one would come once in exp(threshold) answers or less often. A drop
    to agreement p1 from p0 is found after about threshold / KL(p1, p0) answers.
    """

    baseline: int = 200
    falls_to: float = 0.7
    threshold: float = 9.0


class Drift:
    """The agreement of one participant, watched as it comes.

    Source: Page, Continuous inspection schemes (Biometrika, 1954); Lorden, Procedures for reacting
    to a change in distribution (Annals of Mathematical Statistics, 1971), for the false alarms.
    """

    def __init__(self, tolerance: Tolerance = Tolerance()) -> None:
        self._tolerance = tolerance
        self._seen = 0
        self._agreed = 0
        self._ratio = 0.0

    @property
    def ratio(self) -> float:
        """The log likelihood ratio of a drop, from the moment that is most likely for one; >= 0."""
        return self._ratio

    @property
    def alarmed(self) -> bool:
        """Whether there is an alarm now; it ends when agreement is again what it used to be."""
        return self._ratio > self._tolerance.threshold

    @property
    def usual(self) -> float | None:
        """How often it agrees at least when nothing is wrong; None until that is known."""
        if self._seen < self._tolerance.baseline:
            return None
        # Never 0 or 1: what has not happened yet is still possible. A standard error lower, because
        # a baseline that was lucky would make its end look like a drop.
        rate = (self._agreed + 0.5) / (self._tolerance.baseline + 1)
        return max(rate / 2, rate - sqrt(rate * (1 - rate) / self._tolerance.baseline))

    def answered(self, *, agreed: bool) -> bool:
        """Take in whether one more answer agrees with the others; True is the alarm."""
        usual = self.usual
        self._seen += 1
        if usual is None:
            self._agreed += agreed
            return False
        fallen = self._tolerance.falls_to * usual
        step = log(fallen / usual) if agreed else log((1 - fallen) / (1 - usual))
        # Bounded, so that an alarm ends some answers after what it was about does.
        self._ratio = min(max(0.0, self._ratio + step), 2 * self._tolerance.threshold)
        return self.alarmed


def alarm(agreed: Iterable[bool], tolerance: Tolerance = Tolerance()) -> int | None:
    """The first answer at which there is an alarm, counted from 0; None where there is none."""
    drift = Drift(tolerance)
    return next((at for at, one in enumerate(agreed) if drift.answered(agreed=one)), None)
