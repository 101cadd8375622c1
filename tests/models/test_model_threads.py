from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fi_stream.models.threads import (
    Threads,
    available_threads,
    cgroup_quota,
    compute_threads,
    parse_membership,
    parse_v1,
    parse_v2,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("affinity", "quota", "count"),
    [(8, None, 8), (8, 1.0, 1), (8, 2.0, 2), (8, 2.9, 2), (8, 0.25, 1), (2, 16.0, 2), (1, None, 1)],
)
def test_threads_follow_affinity_and_quota(affinity: int, quota: float | None, count: int) -> None:
    assert compute_threads(affinity, quota).count == count


def test_the_line_printed_at_start_says_why() -> None:
    assert str(compute_threads(8, 1.0)) == "1 compute thread (affinity 8, quota 1)"
    assert str(compute_threads(4, None)) == "4 compute threads (affinity 4, no quota)"


def test_the_member_file_overrides_what_is_measured() -> None:
    assert available_threads(3) == Threads(3, "threads under [model]")
    assert 1 <= available_threads().count <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("100000 100000\n", 1.0),
        ("150000 100000", 1.5),
        ("max 100000", None),
        ("max", None),
        ("", None),
        ("-5 100000", None),
        ("5 0", None),
        (None, None),
    ],
)
def test_version_2_quotas_are_read(text: str | None, quota: float | None) -> None:
    assert parse_v2(text) == quota


@pytest.mark.parametrize(
    ("time", "period", "quota"),
    [("200000\n", "100000\n", 2.0), ("-1", "100000", None), (None, "100000", None)],
)
def test_version_1_quotas_are_read(
    time: str | None, period: str | None, quota: float | None
) -> None:
    assert parse_v1(time, period) == quota


def test_membership_lines_are_read_and_others_left_out() -> None:
    text = "4:cpu,cpuacct:/docker/a:b\n0::/user.slice\nnonsense\n"
    assert parse_membership(text) == [(("cpu", "cpuacct"), "/docker/a:b"), ((), "/user.slice")]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    mounted = tmp_path / "cgroup"
    put(tmp_path / "self", "0::/outer/inner\n")
    put(mounted / "outer/inner/cpu.max", "400000 100000")
    put(mounted / "outer/cpu.max", "200000 100000")
    put(mounted / "cpu.max", "max 100000")
    assert cgroup_quota(tmp_path / "self", mounted) == 2.0


def test_a_container_sees_only_the_mount(tmp_path: Path) -> None:
    put(tmp_path / "self", "0::/docker/abc\n")
    put(tmp_path / "cgroup/cpu.max", "100000 100000")
    assert cgroup_quota(tmp_path / "self", tmp_path / "cgroup") == 1.0


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1_groups_are_found_under_either_name(tmp_path: Path, mount: str) -> None:
    put(tmp_path / "self", "3:memory:/other\n4:cpu,cpuacct:/docker/abc\n")
    put(tmp_path / "cgroup" / mount / "docker/abc/cpu.cfs_quota_us", "50000")
    put(tmp_path / "cgroup" / mount / "docker/abc/cpu.cfs_period_us", "100000")
    assert cgroup_quota(tmp_path / "self", tmp_path / "cgroup") == 0.5


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "missing", tmp_path) is None


def test_a_group_outside_the_mount_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "cpu.max", "100000 100000")
    put(tmp_path / "self", "0::/../..\n")
    assert cgroup_quota(tmp_path / "self", tmp_path / "inner") is None


def test_torch_blas_and_children_keep_to_the_number() -> None:
    script = """
import json, os, sys
from fi_stream.models.threads import Threads, use_threads
assert "numpy" not in sys.modules
use_threads(Threads(1, "test"))
import threadpoolctl, torch, numpy
early = torch.get_num_threads()
use_threads(Threads(2, "test"))
pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
print(json.dumps([early, torch.get_num_threads(), max(pools), os.environ["OMP_NUM_THREADS"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout) == [1, 2, 2, "2"]
