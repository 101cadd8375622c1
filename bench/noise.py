"""What noise costs: answers/s and latency of each mechanism beside none, and its drawing alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from bench import federated, job
from bench.load import Plan
from bench.rounds import measure
from bench.setting import Setting
from fi_stream.federation.member import Mechanism, PrivacySection
from fi_stream.federation.policy import Form
from fi_stream.federation.roster import Role
from fi_stream.privacy.building import build
from fi_stream.privacy.supply import NoiseProcess

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rounds import Measured
    from fi_stream.privacy.mechanisms import NoiseMechanism

TITLES: Final = {
    "sealed": "none",
    "noised": "randomised response",
    "gaussian": "Gaussian on probabilities",
    "shards": f"noisy max on the votes of {job.SHARDS} models",
    "central": "noisy max at the aggregator",
}
RATE, WINDOW = 50.0, 256
SECONDS, ROUNDS = 4.0, 3

_ALONE_SECONDS: Final = 3.0
_FILLED_AFTER: Final = 3.0
_APART: Final = 0.005
_SPACED: Final = 300


@dataclass(frozen=True, slots=True)
class Whole:
    """One mechanism in the whole pipeline: milliseconds, and results/s, right or wrong.

    `cpu_us` is the processor time of all roles, and of what draws their noise, for each result.
    """

    mechanism: str
    p50: float
    p99: float
    rate: float
    cpu_us: float | None


@dataclass(frozen=True, slots=True)
class Alone:
    """One mechanism by itself: answers/s for long, and microseconds of one now and then.

    `late` is the share of the answers for which noise was not there in time.
    """

    mechanism: str
    rate: float
    p50_us: float
    p99_us: float
    late: float


def wholes(bootstrap: str, folder: Path, rounds: int, seconds: float) -> list[Whole]:
    """Every mechanism in turn, in each round, on one Kafka."""
    plan = Plan(RATE, seconds, (WINDOW,), seconds * 0.6)
    found: dict[str, list[Measured]] = {name: [] for name in TITLES}
    for number in range(rounds):
        for name, measured in found.items():
            setting = Setting(bootstrap, f"noise-{name}-{number}", folder / f"{name}-{number}")
            measured.append(measure(name, setting, plan))
    return [_whole(TITLES[name], measured) for name, measured in found.items()]


def _whole(title: str, measured: list[Measured]) -> Whole:
    peaks = [one.peaks[0] for one in measured]
    # What noise makes wrong was answered as well.
    shares = [peak.right / (peak.right + peak.wrong) for peak in peaks]
    rates = [peak.rate / share for peak, share in zip(peaks, shares, strict=True)]
    cpu = [
        peak.cpu_us * share
        for peak, share in zip(peaks, shares, strict=True)
        if peak.cpu_us is not None
    ]
    return Whole(
        title,
        median(one.light.p50 for one in measured),
        median(one.light.p99 for one in measured),
        median(rates),
        median(cpu) if cpu else None,
    )


class _Late:
    """Counts draws that were not there in time."""

    def __init__(self) -> None:
        self.draws = 0

    def died(self, code: int | None) -> None:
        raise AssertionError(code)

    def drawn_here(self, count: int) -> None:
        self.draws += count


def alone(seconds: float = _ALONE_SECONDS) -> list[Alone]:
    """Each mechanism of a participant by itself, its noise from a process of its own."""
    return [_alone(mechanism, seconds) for mechanism in Mechanism]


def _alone(mechanism: Mechanism, seconds: float) -> Alone:
    late, row = _Late(), np.full((1, job.CLASSES), 0.5 / job.CLASSES)
    row[0, 3] += 0.5
    with NoiseProcess(late) as source:
        built = _built(mechanism, source)
        for _ in range(3):  # votes that come again are kept in stock
            built.release(row)
        time.sleep(_FILLED_AFTER)
        spaced = []
        for _ in range(_SPACED):
            began = time.perf_counter()
            built.release(row)
            spaced.append(time.perf_counter() - began)
            time.sleep(_APART)
        answers, took = 0, 0.0
        began = time.perf_counter()
        while took < seconds:
            built.release(row)
            answers += 1
            took = time.perf_counter() - began
    p50, p99 = np.percentile(np.array(spaced) * 1e6, (50, 99))
    each = job.CLASSES if mechanism is Mechanism.GAUSSIAN else 1
    late_share = late.draws / (answers * each)
    return Alone(mechanism.value, answers / took, float(p50), float(p99), late_share)


def _built(mechanism: Mechanism, source: NoiseProcess) -> NoiseMechanism:
    if mechanism is Mechanism.NONE:
        return build(PrivacySection(mechanism=mechanism), Form.PROBABILITIES, job.CLASSES)
    section = federated.Variant(mechanism.value).privacy(Role.PARTICIPANT) or {}
    form = Form.PROBABILITIES if mechanism is Mechanism.GAUSSIAN else Form.LABEL
    privacy = PrivacySection.model_validate(section)
    return build(privacy, form, job.CLASSES, job.SHARDS, source)
