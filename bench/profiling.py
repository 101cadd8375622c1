"""Where the time goes in fi_stream's processes at the highest rate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import Plan
from bench.rounds import measure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.setting import Setting

PROFILED = ("p1", "aggregator", "client")
_MOST = 30
_TOLD_OF = ("fi_stream/", "aiokafka/")
_SECONDS = 6.0
_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One function: its part of the process's busy time, by itself and with all that it calls."""

    where: str
    own: float
    whole: float


def profile(setting: Setting, pipeline: str) -> Mapping[str, list[Line]]:
    """One round of a pipeline with three of its processes sampled; the model's thread is not."""
    files = {role: setting.folder.parent / f"{role}.samples.json" for role in PROFILED}
    plan = Plan(rate=50, light_seconds=0.5, windows=(_WINDOW,), peak_seconds=_SECONDS)
    measure(pipeline, setting, plan, files)
    return {role: _top(file) for role, file in files.items()}


def _top(file: Path) -> list[Line]:
    counts = json.loads(file.read_text("utf-8"))
    samples = max(counts["samples"], 1)
    lines = [
        Line(where, own / samples, whole / samples)
        for where, own, whole in counts["functions"]
        if where.startswith(_TOLD_OF)
    ]
    return sorted(lines, key=lambda line: -line.whole)[:_MOST]
