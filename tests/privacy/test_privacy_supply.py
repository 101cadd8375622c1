"""Noise from a process of its own: there in time, used once, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.federation.policy import Selection
from fi_stream.privacy import supply as supplying
from fi_stream.privacy.drawing import asked_for, read_asked
from fi_stream.privacy.draws import Gaussians, Kind, Offsets, Places
from fi_stream.privacy.mechanisms import DiscreteGaussian, RandomisedResponse
from fi_stream.privacy.supply import NoiseProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDE = Gaussians(1e9)
"""Numbers of which two are hardly ever equal."""


class Heard:
    def __init__(self) -> None:
        self.deaths: list[int | None] = []
        self.here = 0

    def died(self, code: int | None) -> None:
        self.deaths.append(code)

    def drawn_here(self, count: int) -> None:
        self.here += count


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def supply(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoiseProcess]:
    monkeypatch.setattr(supplying, "PATIENCE", 60.0)  # the other process may have to wait its turn
    with NoiseProcess(heard) as supply:
        yield supply


def until(true: Callable[[], Any], within: float = 30.0) -> None:
    ends = time.monotonic() + within
    while not true():
        assert time.monotonic() < ends, "it never became so"
        time.sleep(0.005)


def in_stock(supply: NoiseProcess, kind: Kind, count: int = 2_000) -> None:
    supply.take(kind, 0)
    until(lambda: len(supply._stocks[kind].there) >= count)


kinds = st.one_of(
    st.builds(Offsets, st.integers(2, 1000), st.floats(0.001, 1)),
    st.builds(Gaussians, st.floats(0.1, 1e9)),
    st.builds(
        Places,
        st.sampled_from(Selection),
        st.floats(0.01, 1e4),
        st.lists(st.integers(0, 100), min_size=1, max_size=20).map(tuple),
    ),
)


@given(kinds, st.integers(0, 10**6))
def test_what_is_asked_for_is_read_as_it_was_meant(kind: Kind, count: int) -> None:
    assert read_asked(asked_for(kind, count)) == (kind, count)


@pytest.mark.parametrize("line", [b'{"count": 3}', b"[]", b'{"count": "3", "scale": 1.0}'])
def test_what_is_no_noise_is_not_drawn(line: bytes) -> None:
    with pytest.raises(ValueError, match="no noise"):
        read_asked(line)


def test_noise_is_drawn_elsewhere_and_given_out_once(supply: NoiseProcess, heard: Heard) -> None:
    in_stock(supply, WIDE, 8_000)
    taken = np.concatenate([supply.take(WIDE, count) for count in (1, 0, 3_000, 7, 6_000)])
    assert len(taken) == 9_008
    assert len(np.unique(taken)) > 0.999 * len(taken)
    assert taken.std() == pytest.approx(1e9, rel=0.05)
    assert heard.here == 0


def test_more_than_is_in_stock_is_waited_for_and_not_drawn_here(
    supply: NoiseProcess, heard: Heard
) -> None:
    in_stock(supply, WIDE, 1)
    taken = supply.take(WIDE, 100_000)
    assert len(np.unique(taken)) > 99_000
    assert heard.here == 0


def test_what_is_taken_before_the_stock_is_there_does_not_make_it_larger(
    supply: NoiseProcess,
) -> None:
    for _ in range(20):
        supply.take(WIDE, 10)
    assert supply._stocks[WIDE].ahead == 8_192


def test_a_stock_that_runs_low_grows_and_one_that_does_not_stays(supply: NoiseProcess) -> None:
    in_stock(supply, WIDE, 8_000)
    supply.take(WIDE, 100)
    assert supply._stocks[WIDE].ahead == 8_192
    supply.take(WIDE, 7_500)  # a block may have come meanwhile
    assert supply._stocks[WIDE].ahead == 16_384
    in_stock(supply, WIDE, 16_000)


def test_before_the_process_is_up_noise_is_drawn_here_without_a_word(
    supply: NoiseProcess, heard: Heard
) -> None:
    assert len(supply.take(Offsets(10, 0.5), 5)) == 5
    assert heard.here == 0


def test_a_process_that_dies_is_started_anew_and_nobody_waits_for_it(
    supply: NoiseProcess, heard: Heard
) -> None:
    in_stock(supply, WIDE)
    process = supply._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    many = [supply.take(WIDE, 40_000) for _ in range(3)]  # more than was in stock
    assert time.monotonic() - began < 20
    assert len(np.unique(np.concatenate(many))) > 119_000
    until(lambda: heard.deaths == [-signal.SIGKILL])
    in_stock(supply, WIDE)
    assert supply._process is not process


def test_mechanisms_take_their_noise_from_it(supply: NoiseProcess) -> None:
    label = RandomisedResponse(10, 2.0, source=supply)
    scores = DiscreteGaussian(4.0, 1e-5, supply)
    until(lambda: sum(len(stock.there) > 2_000 for stock in supply._stocks.values()) == 2)
    sure = np.eye(10)[np.zeros(4_000, dtype=int)]
    told = label.release(sure).values
    assert (told == 0).mean() == pytest.approx(label.keep, abs=0.05)
    noised = scores.release(sure).values / 2**16 - sure
    assert noised.std() == pytest.approx(scores.sigma, rel=0.05)


def test_votes_that_come_again_are_kept_in_stock_and_others_are_not(supply: NoiseProcess) -> None:
    once = Places(Selection.PERMUTE_AND_FLIP, 2.0, (5, 0, 0))
    often = Places(Selection.PERMUTE_AND_FLIP, 2.0, (4, 1, 0))
    in_stock(supply, WIDE)  # it is up
    for kind, times in ((once, 1), (often, 3)):
        for _ in range(times):
            assert set(supply.take(kind, 3).tolist()) <= {0, 1, 2}
    until(lambda: len(supply._stocks[often].there) >= 256)
    assert len(supply._stocks[once].there) == 0


def test_nothing_is_left_when_it_is_closed(heard: Heard) -> None:
    with NoiseProcess(heard) as supply:
        in_stock(supply, WIDE)
        process = supply._process
        assert process is not None
    assert process.poll() is not None
    assert supply._stocks == {}
    assert heard.deaths == []


def test_it_can_be_closed_before_it_is_up(heard: Heard) -> None:
    began = time.monotonic()
    with NoiseProcess(heard):
        pass
    assert time.monotonic() - began < 2


OWNER = """
import sys, time
from fi_stream.privacy.draws import Gaussians
from fi_stream.privacy.supply import NoiseProcess

class Deaf:
    def died(self, code): pass
    def drawn_here(self, count): pass

with NoiseProcess(Deaf()) as supply:
    supply.take(Gaussians(1e9), 0)
    while not supply._alive:
        time.sleep(0.01)
    print(supply._process.pid, flush=True)
    FATE
"""


def start(fate: str) -> tuple[subprocess.Popen[str], int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.replace("FATE", fate)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_does_not_outlive_its_owner(end: signal.Signals) -> None:
    owner, pid = start("time.sleep(60)")
    with owner:
        owner.send_signal(end)
        owner.wait(20)
    until(lambda: gone(pid))


FORKING = """
    import json, os
    import numpy as np
    while len(supply._stocks[Gaussians(1e9)].there) < 5_000:
        time.sleep(0.01)
    reports = []
    for _ in range(2):
        out, into = os.pipe()
        if os.fork() == 0:
            drawn = supply.take(Gaussians(1e9), 500).tolist()
            supply.close()
            os.write(into, json.dumps(drawn).encode())
            os._exit(0)
        os.close(into)
        with os.fdopen(out) as report:
            reports.append(json.loads(report.read()))
        os.wait()
    reports.append(supply.take(Gaussians(1e9), 500).tolist())
    print(json.dumps(reports), flush=True)
"""


def test_a_fork_has_none_of_its_noise_and_does_not_end_it() -> None:
    owner, pid = start(FORKING.strip().replace("\n    ", "\n    "))
    with owner:
        assert owner.stdout is not None
        one, two, mine = json.loads(owner.stdout.readline())
        assert owner.wait(20) == 0
    assert len({*one, *two, *mine}) > 1_490
    until(lambda: gone(pid))
