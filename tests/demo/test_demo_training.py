"""Participants train on their own digits only, alike every time, and are kept for the next run."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fi_stream.demo.data import Digits, Division, divide, load_digits, queries
from fi_stream.demo.different import very_different
from fi_stream.demo.model import SOURCE, Network
from fi_stream.demo.offline import accuracy, predictions, ratios, together
from fi_stream.demo.training import Trained, _fingerprint, _read, cache_directory, train, trained
from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "below" / "it"


@pytest.fixture(scope="session")
def default(cache: Path) -> Trained:
    return trained(Division(), cache)


def few(count: int = 60) -> Digits:
    return load_digits().at(np.arange(count))


def file_of(division: Division) -> str:
    return f"{_fingerprint(division)}.npz"


def assert_same(one: Network, two: Network) -> None:
    for name, array in one.arrays().items():
        assert_array_equal(array, two.arrays()[name])


def test_equal_digits_and_seeds_train_equal_models() -> None:
    assert_same(train(few(), seed=3), train(few(), seed=3))
    assert not np.array_equal(train(few(), seed=3).hidden, train(few(), seed=4).hidden)


def test_training_leaves_torch_as_it_was() -> None:
    import torch  # noqa: PLC0415  (slow to import: only this test needs it)

    before = torch.random.get_rng_state(), torch.get_num_threads()
    train(few(20), seed=0)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_a_model_knows_what_it_was_shown() -> None:
    own = few(100)
    said = train(own, seed=0).probabilities(own.images)
    assert accuracy(said.argmax(axis=1), own.labels) > 0.95


def test_each_model_was_trained_on_its_own_part(default: Trained) -> None:
    parts, test = divide(load_digits(), Division())
    assert default.examples == tuple(len(part) for part in parts)
    for images, part in zip(default.training, parts, strict=True):
        assert_array_equal(images, part.images)
    assert_array_equal(default.test.images, test.images)
    assert_same(default.networks[1], train(parts[1], seed=1))


def test_together_without_noise_beats_the_best_alone(default: Trained) -> None:
    asked = queries(default.test, 300)
    said = predictions(default.networks, asked.images)
    best = max(accuracy(one.argmax(axis=1), asked.labels) for one in said)
    assert accuracy(together(said, "soft"), asked.labels) > best


def test_ratios_are_learnt_from_the_images_before_alone(default: Trained) -> None:
    images = queries(default.test, 220).images
    found = ratios(default, images)
    assert (found[:, :100] == 1).all()
    assert not np.allclose(found[:, 100:], 1, atol=0.5)
    later = images.copy()
    later[150:] = 0
    assert_array_equal(ratios(default, later)[:, :150], found[:, :150])
    earlier = images.copy()
    earlier[:100] = 0
    assert not np.allclose(ratios(default, earlier)[:, 150:], found[:, 150:], atol=0.5)


def test_very_different_data_gain_most_from_the_best_rule(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = very_different(Division(), 300)
    assert found is not None
    # 70, 83 and 93 %, where this was written
    assert list(found.by_rule) == ["soft", "competence_density"]
    assert found.best_single < found.by_rule["soft"] < found.by_rule["competence_density"]
    assert very_different(Division(participants=1), 300) is None
    assert very_different(Division(alpha=0.1), 300) is None


def test_what_was_trained_is_read_the_next_time(default: Trained, cache: Path) -> None:
    started: list[int] = []
    again = trained(Division(), cache, started.append)
    assert started == []
    assert again.examples == default.examples
    for one, two in zip(again.training, default.training, strict=True):
        assert_array_equal(one, two)
    assert_array_equal(again.test.labels, default.test.labels)
    for one, two in zip(again.networks, default.networks, strict=True):
        assert_same(one, two)


def test_another_division_is_trained_anew_and_progress_is_told(
    default: Trained, cache: Path
) -> None:
    started: list[int] = []
    other = trained(Division(participants=2, alpha=0.4), cache, started.append)
    assert started == [0, 1]
    assert len(other.networks) == 2 != len(default.networks)
    assert len(list(cache.iterdir())) >= 2
    assert {path.suffix for path in cache.iterdir()} == {".npz"}


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_half_a_file_in_the_cache_is_not_read(
    default: Trained, cache: Path, tmp_path: Path, part: float
) -> None:
    assert len(default.networks) == 5
    whole = (cache / file_of(Division())).read_bytes()
    half = tmp_path / "half.npz"
    half.write_bytes(whole[: int(len(whole) * part)])
    assert _read(half) is None


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    (tmp_path / file_of(Division())).write_bytes(b"not an archive")
    started: list[int] = []
    trained(Division(), tmp_path, started.append)
    assert started == [0, 1, 2, 3, 4]
    assert _read(tmp_path / file_of(Division())) is not None


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        trained(Division(), occupied, lambda number: pytest.fail(f"{number} was trained in vain"))


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "fi-stream" / "demo"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "fi-stream" / "demo"


def test_served_probabilities_are_those_of_torch_and_on_the_simplex(default: Trained) -> None:
    import torch  # noqa: PLC0415  (slow to import: only this test needs it)

    network, images = default.networks[0], default.test.images
    hidden, hidden_bias, output, output_bias = map(torch.from_numpy, network.arrays().values())
    active = torch.relu(torch.from_numpy(images) @ hidden + hidden_bias)
    expected = torch.softmax(active @ output + output_bias, dim=-1)
    served = network.probabilities(images)
    assert_allclose(served, expected.numpy(), atol=1e-6)
    assert served.dtype == np.float32
    assert_allclose(served.sum(axis=1), 1.0, atol=1e-6)


def test_a_participant_serves_its_weights_without_torch(default: Trained, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(SOURCE)
    default.networks[2].save(tmp_path / "weights.npz")
    np.save(tmp_path / "rows.npy", default.test.images[:7])
    program = """
import sys, numpy as np, model
said = model.load().predict({"image": np.load("rows.npy")})
np.save("said.npy", said)
heavy = {"torch", "sklearn", "scipy", "opendp"} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    expected = default.networks[2].probabilities(default.test.images[:7])
    assert_array_equal(np.load(tmp_path / "said.npy"), expected)


def test_any_changed_weight_changes_the_version(default: Trained) -> None:
    network = default.networks[0]
    weights = {name: array.copy() for name, array in network.arrays().items()}
    assert Network(**weights).version == network.version
    weights["output_bias"][3] += 1
    assert Network(**weights).version != network.version


def test_a_trained_demo_starts_without_torch_and_scikit_learn(
    default: Trained, cache: Path, tmp_path: Path
) -> None:
    program = f"""
import pathlib, sys
from fi_stream.demo.training import Division, trained
found = trained(Division(), pathlib.Path({str(cache)!r}))
assert found.examples == {default.examples}
heavy = {{"torch", "sklearn", "scipy"}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_logits_beyond_what_float32_can_raise_e_to_stay_probabilities(default: Trained) -> None:
    weights = default.networks[0].arrays()
    loud = Network(**(weights | {"output": weights["output"] * np.float32(100)}))
    said = loud.probabilities(default.test.images)
    assert np.isfinite(said).all()
    assert_allclose(said.sum(axis=1), 1.0, atol=1e-6)
