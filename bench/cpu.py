"""Processor time of processes: other work on the machine changes it less than it does rates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")


def used(pids: Iterable[int]) -> float | None:
    """Seconds that these processes, and what they started, have used together.

    None where there is no Linux /proc.
    """
    try:
        return sum(_of(one) for pid in pids for one in (pid, *_children(pid))) / _TICKS
    except OSError:
        return None


def _children(pid: int) -> list[int]:
    """What it started and what still runs: those that draw noise, for example."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text("utf-8").split()]


def _of(pid: int) -> int:
    # After the name, which may hold anything but ends at the last bracket, user and system time
    # are the 12th and 13th fields.
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
