"""Where one reader stands: what it may read, what is paused, and the next offset of each partition.

The client library has a position too, but moves it when it hands records over, even those that an
exception then loses. This one moves only for records that were really returned (DESIGN 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fi_stream.transport.port import Partition


class Cursor:
    """The assignment, pauses and positions of a reader.

    Args:
        start_paused: whether newly assigned partitions stay paused until they are resumed.
    """

    def __init__(self, *, start_paused: bool) -> None:
        self._start_paused = start_paused
        self._changed = False
        self._paused: set[Partition] = set()
        self._next: dict[Partition, int] = {}
        self._fixed: set[Partition] = set()
        self.assigned: frozenset[Partition] = frozenset()
        self.active: frozenset[Partition] = frozenset()
        """What may be returned now: assigned, at a known position, not paused."""
        self.generation = 0

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Take a new assignment; every position must be fixed again.

        A pause holds on for as long as the partition stays ours: whoever asked for it still has
        the work in hand.
        """
        before = self.assigned
        self.assigned = frozenset(partitions)
        self._paused = set(self.assigned) if self._start_paused else self._paused & self.assigned
        self._fixed = set()
        self.generation += 1
        # A first assignment of nothing is no news; it would read like a loss.
        self._changed = self._changed or bool(before or self.assigned)
        self._refresh()

    def revoke(self) -> None:
        """Give everything up, until the next assignment; pauses and positions are remembered."""
        self.assigned = frozenset()
        self._fixed = set()
        self.generation += 1
        self._changed = True
        self._refresh()

    def take_change(self) -> frozenset[Partition] | None:
        """The assignment, once after each change."""
        if not self._changed:
            return None
        self._changed = False
        return self.assigned

    @property
    def unfixed(self) -> frozenset[Partition]:
        """Assigned partitions whose position is not known yet."""
        return self.assigned - self._fixed

    def remembered(self, partition: Partition) -> int | None:
        """The next offset when this reader last had the partition."""
        return self._next.get(partition)

    def remembered_of(self, topic: str) -> frozenset[Partition]:
        """The partitions of a topic in which this reader stands or once stood."""
        return frozenset(partition for partition in self._next if partition.topic == topic)

    def unfix(self, partitions: Iterable[Partition]) -> None:
        """The log does not go on where we stand: these positions must be fixed again."""
        self._fixed.difference_update(partitions)
        self.generation += 1
        self._refresh()

    def fix(self, partition: Partition, offset: int) -> None:
        """The next record to return is the first at or after this offset, if it is still ours."""
        if partition not in self.assigned:
            return
        self._next[partition] = offset
        self._fixed.add(partition)
        self._refresh()

    def next_of(self, partition: Partition) -> int:
        """The next offset of a partition whose position is fixed."""
        return self._next[partition]

    def positions(self) -> dict[Partition, int]:
        """The next offset of every partition whose position is fixed."""
        return {partition: self._next[partition] for partition in self._fixed}

    def advance(self, partition: Partition, last: int) -> None:
        """Records up to `last` were returned, or there is none up to it any more."""
        self._next[partition] = last + 1

    def pause(self, partitions: Iterable[Partition]) -> frozenset[Partition]:
        """Return nothing of these; says which of them are assigned."""
        wanted = frozenset(partitions) & self.assigned
        self._paused |= wanted
        self._refresh()
        return wanted

    def resume(self, partitions: Iterable[Partition]) -> frozenset[Partition]:
        """Return records of these again; says which of them are assigned."""
        wanted = frozenset(partitions)
        self._paused -= wanted
        self._refresh()
        return wanted & self.assigned

    @property
    def paused(self) -> frozenset[Partition]:
        """Assigned partitions that are paused."""
        return self.assigned & self._paused

    def _refresh(self) -> None:
        self.active = frozenset(self._fixed) - self._paused
