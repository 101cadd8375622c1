"""What the bench of privacy reads, measures and writes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from bench.privacy.__main__ import main
from bench.privacy.measure import EPSILONS, METHODS, measure
from bench.privacy.replaying import Replaying
from bench.privacy.traces import Trace, read_traces
from fi_stream.errors import ConfigError
from fi_stream.privacy.draws import Gaussians

TRACES = Path(__file__).parents[3] / "shared" / "traces"
PEOPLE, ROWS, CLASSES = 3, 41, 4


def write(file: Path, seed: int = 0, **changes: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=ROWS)
    logits = rng.normal(size=(PEOPLE, ROWS, CLASSES))
    logits[:, np.arange(ROWS), labels] += 3
    np.savez(file, **{"logits": logits.astype(np.float16), "labels": labels, **changes})


def test_a_folder_of_any_traces_becomes_a_list_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "mine_s1.npz", 1)
    write(tmp_path / "mine_s2.npz", 2)
    assert main(["--traces", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert {one["trace"] for one in found} == {"mine_s1", "mine_s2"}
    keys = {"trace", "protection", "mechanism", "epsilon", "accuracy", "noiseless"}
    assert all(set(one) == keys for one in found)
    told = [method for method in METHODS if method.mechanism != "noisy_max"]  # no shards here
    lines = sum(len(method.protections) for method in told)
    assert len(found) == 2 * lines * len(EPSILONS)
    assert all(0 <= one["accuracy"] <= 1 for one in found)
    printed = capsys.readouterr().out
    assert "randomised_response" in printed
    assert "permute_and_flip" in printed
    assert "mine: accuracy in %" in printed
    picture = (tmp_path / "out.svg").read_text()
    assert picture.count("<polyline") == len(told)


def test_less_noise_is_more_accurate_up_to_what_the_rule_gives_without_any() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(10, size=200)
    sure = np.full((5, 200, 10), 0.01)
    sure[:, np.arange(200), labels] = 0.91
    shares = np.zeros((5, 200, 10))
    shares[:, np.arange(200), labels] = 1.0
    found = list(measure(Trace("sure", sure, labels, shares), Replaying(), (0.2, 32.0)))
    assert {one.mechanism for one in found} == {method.mechanism for method in METHODS}
    assert {one.noiseless for one in found} == {1.0}
    for weak, strong in pairwise(found):
        if weak.epsilon < strong.epsilon and weak.mechanism == strong.mechanism:
            assert weak.accuracy < 0.6
            assert strong.accuracy > 0.99


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"logits": np.zeros((3, 41))}, r"logits \[3, 41\]"),
        ({"labels": np.zeros(40, dtype=int)}, r"labels \[40\]"),
        ({"logits": np.full((3, 41, 4), np.nan)}, "finite logits"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(
    tmp_path: Path, changes: dict[str, np.ndarray], says: str
) -> None:
    write(tmp_path / "odd.npz", **changes)
    with pytest.raises(ConfigError, match=rf"odd\.npz.*{says}"):
        read_traces(tmp_path)


def test_an_empty_folder_and_a_damaged_file_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--traces", str(tmp_path)]) == 1
    assert "leave --traces out" in capsys.readouterr().err
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4")
    assert main(["--traces", str(tmp_path)]) == 1
    assert "cut.npz is not a trace" in capsys.readouterr().err


def test_noise_is_the_same_again_only_after_rewinding() -> None:
    source, kind = Replaying(), Gaussians(1000.0)
    first, second = source.take(kind, 50), source.take(kind, 50)
    assert (first != second).any()
    source.rewind()
    assert np.array_equal(source.take(kind, 100), np.concatenate([first, second]))


# % of the two digits traces at epsilon 2 and 8, delta 1e-5.
EXPECTED = {
    ("trusted", "randomised_response"): (56, 90),
    ("trusted", "gaussian"): (22, 60),
    ("secagg", "gaussian"): (41, 87),
    ("trusted", "permute_and_flip"): (80, 90),
}


def test_recorded_digits_are_told_as_well_as_expected() -> None:
    traces = [
        one
        for one in (read_traces(TRACES) if TRACES.is_dir() else [])
        if one.group == "digits_K5_a0.5"
    ]
    if not traces:
        pytest.skip(f"no digits_K5_a0.5_s*.npz in {TRACES}")
    found = [
        one
        for trace in traces
        for source in [Replaying()]
        for one in measure(trace, source, (2.0, 8.0))
    ]
    for (protection, mechanism), percents in EXPECTED.items():
        for epsilon, percent in zip((2.0, 8.0), percents, strict=True):
            accuracy = mean(
                one.accuracy
                for one in found
                if (one.protection, one.mechanism, one.epsilon) == (protection, mechanism, epsilon)
            )
            # 3 points, and one for chance: together more than six of its standard deviations
            assert 100 * accuracy == pytest.approx(percent, abs=4), (protection, mechanism, epsilon)
