"""How many compute threads this process may use: its CPU affinity and its container's quota.

Libraries count the host's CPUs, and a container with `cpus: 1` on a big host then runs dozens of
threads that wait for one another. Imports no numpy, so that `use_threads` can come before it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Threads:
    """A number of compute threads and, to be printed at start, where it comes from."""

    count: int
    because: str

    def __str__(self) -> str:
        return f"{self.count} compute thread{'' if self.count == 1 else 's'} ({self.because})"


def compute_threads(affinity: int, quota: float | None) -> Threads:
    """The largest whole number of threads that both allow, at least one.

    Args:
        affinity: CPUs that this process may run on.
        quota: CPUs' worth of time that its control group gets; None without a limit.
    """
    if quota is None:
        return Threads(affinity, f"affinity {affinity}, no quota")
    # Rounded down: a thread more than the quota pays for stops all of them part of the time.
    count = max(1, min(affinity, int(quota)))
    return Threads(count, f"affinity {affinity}, quota {quota:g}")


def available_threads(configured: int | None = None) -> Threads:
    """The threads for this process; `threads` under [model] overrides what is measured."""
    if configured is not None:
        return Threads(configured, "threads under [model]")
    return compute_threads(len(os.sched_getaffinity(0)), cgroup_quota())


def use_threads(threads: Threads) -> None:
    """Make torch, BLAS and OpenMP keep to that number.

    Call it before numpy is imported: a BLAS that is loaded already is reached only if
    threadpoolctl is too (it comes with scikit-learn). Child processes inherit the number.
    """
    for name in _VARIABLES:
        os.environ[name] = str(threads.count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads.count)
    if (pools := sys.modules.get("threadpoolctl")) is not None:
        pools.threadpool_limits(limits=threads.count)


def cgroup_quota(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """The smallest CPU quota of this process's control group and those above it, in CPUs.

    Args:
        membership: the file that names the process's groups.
        mounted: where control groups, version 2 or 1, are mounted.
    """
    quotas: list[float] = []
    for controllers, group in parse_membership(_text(membership) or ""):
        if not controllers:
            readings = [parse_v2(_text(d / "cpu.max")) for d in _upwards(mounted, group)]
        elif "cpu" in controllers:
            readings = [
                parse_v1(_text(d / "cpu.cfs_quota_us"), _text(d / "cpu.cfs_period_us"))
                for base in (mounted / "cpu", mounted / ",".join(controllers))
                for d in _upwards(base, group)
            ]
        else:
            continue
        quotas += [quota for quota in readings if quota is not None]
    return min(quotas, default=None)


def parse_membership(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Controllers and group of each line `id:controllers:group`; version 2 has no controllers."""
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return [
        (tuple(name for name in controllers.split(",") if name), group)
        for _, controllers, group in lines
    ]


def parse_v2(text: str | None) -> float | None:
    """CPUs of a `cpu.max` ("50000 100000"; "max 100000" is no limit); None if unreadable."""
    return _ratio(*(text or "").split()[:2])


def parse_v1(quota: str | None, period: str | None) -> float | None:
    """CPUs of a `cpu.cfs_quota_us` (-1 is no limit) and a `cpu.cfs_period_us`."""
    return _ratio(quota or "", period or "")


def _ratio(quota: str = "", period: str = "") -> float | None:
    try:
        time, span = int(quota), int(period)
    except ValueError:
        return None
    return time / span if time > 0 and span > 0 else None


def _upwards(base: Path, group: str) -> Iterator[Path]:
    """The group's directory and those above it; inside a container only the mount may exist."""
    directory = base / group.lstrip("/")
    yield from (d for d in (directory, *directory.parents) if d == base or base in d.parents)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
