"""How far one role has come, and whether that is far enough: what `/livez` and `/readyz` say.

Told by the role's loop what it does, and by whoever looks what is around it; there is no clock
here, and no broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from fi_stream.transport.port import Partition
    from fi_stream.values import Instant

QUIET: Final = 10.0
"""Seconds without a poll after which a role is not ready."""

STUCK: Final = 60.0
"""Seconds without a poll, besides the longest deadline, after which a loop will not go on."""

SHOWN: Final = 300.0
"""Seconds for which a loss, or a move of partitions, stays in sight."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a role depends on, at one moment.

    `skew` is the broker's clock less ours, in milliseconds, `lost` counts records skipped and
    jumps of a log, `moved` partitions that got another leader, `troubles` are those of the topics
    and of our keys, said to a person.
    """

    reachable: bool
    skew: float = 0.0
    max_skew: float = 0.0
    lost: int = 0
    moved: int = 0
    troubles: tuple[str, ...] = ()


class Progress:
    """What one role has done lately.

    A loop says `doing(...)` until it is at work, `assigned(...)` at every change, and `polled(now)`
    each time round.
    """

    def __init__(self, now: Instant) -> None:
        self._doing: str | None = "waiting for the broker"
        self._partitions: int | None = None
        self._polled: Instant | None = None
        self._around = Surroundings(reachable=True)
        self._reached = self._back = now
        self._lost_at: Instant | None = None
        self._moved_at: Instant | None = None
        self.longest_deadline = 0.0
        """In seconds: a loop may be busy with one query for so long."""

    @property
    def partitions(self) -> int:
        """How many are held."""
        return self._partitions or 0

    def doing(self, what: str | None) -> None:
        """What must be done before the role is at work; None: it is."""
        self._doing = what

    def assigned(self, partitions: Collection[Partition]) -> None:
        """The whole assignment, after a change; the same number of several topics is one."""
        self._partitions = len({partition.number for partition in partitions})

    def polled(self, now: Instant) -> None:
        """The loop asks for records, or did: it goes round."""
        self._polled = now

    def look(self, around: Surroundings, now: Instant) -> None:
        """What is around the role now; to be told about once a second."""
        if around.lost > self._around.lost:
            self._lost_at = now
        if around.moved > self._around.moved:
            self._moved_at = now
        if around.reachable:
            if not self._around.reachable:
                self._back = now
            self._reached = now
        self._around = around

    def quiet(self, now: Instant) -> float | None:
        """Seconds since the last poll; None before the first."""
        return None if self._polled is None else now - self._polled

    def stuck(self, now: Instant) -> list[str]:
        """Why only a new process can help; a broker that is away is no such reason."""
        if self._polled is None or not self._around.reachable:
            return []
        quiet = now - max(self._polled, self._back)
        longest = STUCK + self.longest_deadline
        return [f"no poll for {quiet:.0f} s"] if quiet > longest else []

    def lacking(self, now: Instant) -> list[str]:
        """Why the role is not ready, all that is known."""
        why = [] if self._doing is None else [self._doing]
        if not self._around.reachable:
            why.append(f"broker unreachable for {now - self._reached:.0f} s")
        why += self._around.troubles
        if self._partitions == 0:
            why.append("no partition assigned")
        quiet = self.quiet(now)
        if quiet is not None and quiet > QUIET:
            why.append(f"no poll for {quiet:.0f} s")
        if abs(self._around.skew) > self._around.max_skew:
            why.append(
                f"this machine's clock is {abs(self._around.skew):.0f} ms off the broker's, "
                f"{self._around.max_skew:.0f} are allowed"
            )
        return why

    def degraded(self, now: Instant) -> list[str]:
        """What is not as it should be, although the role works."""
        seen = (
            ("records were lost or could not be read", self._lost_at),
            ("partitions got another leader", self._moved_at),
        )
        return [
            f"{what}, last {now - at:.0f} s ago: see the log"
            for what, at in seen
            if at is not None and now - at <= SHOWN
        ]
