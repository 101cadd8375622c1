from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from bench import cpu
from bench.sampler import sampled

if TYPE_CHECKING:
    from pathlib import Path


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_samples_fall_where_the_time_is_spent(tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    with sampled(file):
        spin(0.15)
    counts = json.loads(file.read_text("utf-8"))
    (own, whole), *_ = [
        (own, whole) for where, own, whole in counts["functions"] if where.endswith(" spin")
    ]
    assert counts["samples"] > 10
    assert own > counts["samples"] / 2
    assert own <= whole <= counts["samples"]


def test_processor_time_is_counted_and_unknown_for_what_is_gone() -> None:
    before = cpu.used([os.getpid()])
    spin(0.1)
    after = cpu.used([os.getpid()])
    assert before is not None
    assert after is not None
    assert 0.05 <= after - before < 5
    assert cpu.used([2**22 + 1]) is None
