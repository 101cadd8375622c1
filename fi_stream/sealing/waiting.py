"""Events whose grant has not come yet: kept for a while, bounded for each sender they claim."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.transport.port import Partition, Record
    from fi_stream.values import Instant

MOST_EVENTS = 256
MOST_BYTES = 4 * 2**20


@dataclass(slots=True)
class _Bench:
    """What waits under one claimed sender."""

    size: int = 0
    events: list[tuple[bytes, Record, Instant]] = field(default_factory=list)


class WaitingRoom:
    """Holds events by the sender that they claim, so that one sender cannot crowd out another."""

    def __init__(self) -> None:
        self._benches: defaultdict[str, _Bench] = defaultdict(_Bench)

    def __len__(self) -> int:
        return sum(len(bench.events) for bench in self._benches.values())

    def oldest(self, source: Partition) -> int | None:
        """The lowest offset of this partition among the events that wait."""
        offsets = (
            record.offset
            for bench in self._benches.values()
            for _, record, _ in bench.events
            if record.source == source
        )
        return min(offsets, default=None)

    def add(self, sender: str, epoch: bytes, record: Record, until: Instant) -> Refusal | None:
        """Keep an event for its grant; `unknown_epoch` when its sender has too many waiting.

        The caller has checked that the sender is in a roster: that bounds the number of benches.
        """
        bench = self._benches[sender]
        size = len(record.value)
        if len(bench.events) >= MOST_EVENTS or bench.size + size > MOST_BYTES:
            return Refusal(Reason.UNKNOWN_EPOCH, f"{sender} has too many events without a grant")
        bench.events.append((epoch, record, until))
        bench.size += size
        return None

    def granted(self, sender: str, epoch: bytes) -> list[Record]:
        """Take out what waited for this epoch, in the order in which it came."""
        return self._take(sender, lambda waiting: waiting[0] == epoch)

    def all(self) -> list[Record]:
        """Take out everything."""
        return [
            record
            for sender in list(self._benches)
            for record in self._take(sender, lambda _: True)
        ]

    def expired(self, now: Instant) -> list[tuple[Record, Refusal]]:
        """Take out what waited too long."""
        return [
            (record, Refusal(Reason.UNKNOWN_EPOCH, f"no grant of {sender} came in time"))
            for sender in list(self._benches)
            for record in self._take(sender, lambda waiting: waiting[2] <= now)
        ]

    def _take(
        self, sender: str, wanted: Callable[[tuple[bytes, Record, Instant]], bool]
    ) -> list[Record]:
        bench = self._benches.get(sender)
        if bench is None:
            return []
        taken = [record for _, record, _ in filter(wanted, bench.events)]
        if taken:
            bench.events = [waiting for waiting in bench.events if not wanted(waiting)]
            bench.size -= sum(len(record.value) for record in taken)
        return taken
