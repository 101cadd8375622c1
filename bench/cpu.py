"""Processor time of processes: other work on the machine changes it less than it does rates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")


def used(pids: Iterable[int]) -> float | None:
    """Seconds that these processes have used together; None where there is no Linux /proc."""
    try:
        return sum(map(_of, pids)) / _TICKS
    except OSError:
        return None


def _of(pid: int) -> int:
    # After the name, which may hold anything but ends at the last bracket, user and system time
    # are the 12th and 13th fields.
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
