"""Recorded answers with the noise that each participant would have added."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_recordings import CLASSES, query
from typer.testing import CliRunner

from fi_stream.aggregation.replay import compare, redecide
from fi_stream.aggregation.whatif import WhatIf, numbers
from fi_stream.cli.app import app
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Contributor, Noise
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.federation.member import Mechanism
from fi_stream.privacy.draws import Kind, Offsets
from fi_stream.roles.noising import Noising, noised
from fi_stream.roles.recordings import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.events.recording import Recorded

QUERIES = tuple(query(number) for number in range(20))
HARD = WhatIf(rule="hard")


class Always:
    """Noise that is one number; remembers of which kind it was wanted."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.kinds: set[Kind] = set()

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        self.kinds.add(kind)
        return np.full(count, self._number)


def predictions(queries: Iterable[Recorded]) -> NDArray[np.float64]:
    found = [numbers(answer.prediction) for one in queries for answer in one.answers]
    return np.concatenate(found).astype(np.float64)


def test_randomised_response_is_what_hard_reads_and_gives_votes() -> None:
    source = Always(1)
    made = noised(QUERIES, len(CLASSES), Noising(2.0), "hard", source)
    expected = (predictions(QUERIES).argmax(axis=1) + 1) % 3
    assert np.array_equal(predictions(made), np.eye(3)[expected])
    assert [type(kind) for kind in source.kinds] == [Offsets]
    untouched = [one.model_copy(update={"answers": ()}) for one in QUERIES]
    assert [one.model_copy(update={"answers": ()}) for one in made] == untouched


def test_gaussian_noise_is_on_the_probabilities_that_soft_reads() -> None:
    quiet = predictions(noised(QUERIES, 3, Noising(2.0), source=Always(0)))
    loud = predictions(noised(QUERIES, 3, Noising(2.0), source=Always(2**16)))
    assert np.abs(quiet - predictions(QUERIES)).max() <= 2.0**-17
    assert np.array_equal(loud, quiet + 1)


def test_each_rule_of_a_recording_has_its_own_noise() -> None:
    asked = QUERIES[0].ask.model_copy(update={"rule": "hard"})
    mixed = (QUERIES[0].model_copy(update={"ask": asked}), *QUERIES[1:])
    made = predictions(noised(mixed, 3, Noising(2.0), source=Always(0)))
    assert set(np.unique(made[:4])) == {0.0, 1.0}
    assert np.abs(made[4:] - predictions(QUERIES)[4:]).max() <= 2.0**-17
    votes = noised(QUERIES, 3, Noising(2.0, mechanism=Mechanism.RANDOMISED_RESPONSE), "soft")
    assert set(np.unique(predictions(votes))) == {0.0, 1.0}


def test_next_to_no_noise_decides_as_the_rule_does_without() -> None:
    # the truth is kept but once in 10^13
    made = redecide(noised(QUERIES, 3, Noising(32.0), "hard"), HARD)
    exact = redecide(QUERIES, HARD)
    assert compare(QUERIES, made) == compare(QUERIES, exact)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    truth = Tensor(
        name="truth", datatype=Datatype.INT64, shape=(2,), data=np.ones(2, "<i8").tobytes()
    )
    path = tmp_path / "monday.rec"
    with Writer(path, CLASSES) as writer:
        for one in QUERIES:
            writer.write(one.model_copy(update={"truth": truth}))
    return path


def test_noise_stands_beside_what_was_recorded_and_goes_with_every_other_option(
    file: Path,
) -> None:
    words = ["--rule", "hard", "--epsilon", "32", "--deadline", "20", "--participants", "ann"]
    result = CliRunner().invoke(app("replay"), ["replay", str(file), *words, "--json"])
    assert result.exit_code == 0
    found = {one.pop("decided"): one for one in json.loads(result.stdout)}
    assert list(found) == ["as recorded", "the same rule", "hard", "hard, epsilon 32"]
    noisy = found["hard, epsilon 32"]
    assert (noisy.pop("epsilon"), noisy.pop("mechanisms")) == (32.0, ["randomised_response"])
    without = found["hard"]
    assert (without.pop("epsilon"), without.pop("mechanisms")) == (None, [])
    assert noisy == without
    assert noisy["outcomes"] == {"complete": 20}
    assert noisy["accuracy"] is not None
    shown = CliRunner().invoke(app("replay"), ["replay", str(file), "--epsilon", "8"])
    assert "the same rule, epsilon 8" in shown.stdout
    assert "epsilon is of one row, at each participant, by gaussian" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epsilon", "1", "--rule", "entropy"], "they have no entropy. Use rule 'soft' or"),
        (["--epsilon", "0"], r"--epsilon 0: give one row 0\.001 to 32"),
        (["--epsilon", "nan"], r"--epsilon nan: give one row 0\.001 to 32"),
        (["--epsilon", "1", "--delta", "0.5"], r"--delta 0\.5: give 1e-15 to 0\.01"),
        (["--epsilon", "1", "--mechanism", "noisy_max"], "use randomised_response or gaussian"),
        (["--epsilon", "1", "--mechanism", "laplace"], "use randomised_response or gaussian"),
        (["--delta", "1e-6"], "there is none without --epsilon"),
        (["--mechanism", "gaussian"], "there is none without --epsilon"),
    ],
)
def test_noise_that_cannot_be_is_refused(file: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app("replay"), ["replay", str(file), *words])
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match=said):
        raise result.exception


def test_no_noise_is_put_upon_noise() -> None:
    noise = Noise(mechanism="gaussian", epsilon=1.0, delta=1e-5, total=1.0)
    who = Contributor(member="bob", model="m", noise=noise)
    result = QUERIES[1].result.model_copy(update={"contributors": (who,)})
    declared = QUERIES[1].model_copy(update={"result": result})
    with pytest.raises(ConfigError, match="query 2: the answer of bob was noised"):
        noised([QUERIES[0], declared], 3, Noising(1.0))
    # nobody contributed where there was no quorum: then the numbers say it
    again = noised(QUERIES, 3, Noising(1.0), source=Always(2**16))
    with pytest.raises(ConfigError, match="query 1: the answer of ann was noised"):
        noised(again, 3, Noising(1.0))
