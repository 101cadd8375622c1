"""Which past rows a weight that learns may use, so that a replay learns the same.

Weights change only where a whole block of rows has passed, counted from the first, so they do not
depend on when an aggregator started, nor on what it read together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Windows:
    """Blocks of `block` rows, each with the `length` rows before it once there are `warm` of them.

    Memory is bounded by `length`, and learning is done once a block.
    """

    length: int = 1000
    warm: int = 100
    block: int = 50

    def past(self, rows: int) -> slice | None:
        """The rows that what is learnt after so many comes from: whole blocks; None until warm."""
        start = rows - rows % self.block
        return slice(max(0, start - self.length), start) if start >= self.warm else None

    def over(self, rows: int) -> Iterator[tuple[slice, slice | None]]:
        """Each block of so many rows, and the past that it may use: None until it is warm."""
        for start in range(0, rows, self.block):
            yield slice(start, min(start + self.block, rows)), self.past(start)


WINDOWS: Final = Windows()
"""What a bench over traces and a running aggregator both learn from."""
