"""A recording is written once and read whole, a trace loads as one, and both are decided again."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.replay import compare, recorded, redecide
from fi_stream.aggregation.results import result_payloads
from fi_stream.cli.app import app
from fi_stream.errors import ConfigError
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.events.tensors import Datatype, Tensor
from fi_stream.roles.recordings import Writer, read_recording
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.events.recording import Recorded

CLASSES = ("cat", "dog", "owl")


def query(number: int) -> Recorded:
    rng = np.random.default_rng(number)
    digest = number.to_bytes(32, "big")
    ask = Ask(
        query=digest[:16],
        partition=0,
        rule="soft",
        rows=2,
        protection="trusted",
        created=0,
        deadline=100,
    )
    asked = Asked("client", digest, ask, 1, frozenset({"ann", "bob"}))
    answers = {
        member: Given(Answered(member, digest, BrokerMillis(at)), "m", rng.dirichlet(np.ones(3), 2))
        for member, at in (("ann", 10), ("bob", 40))
    }
    settled = Settled(asked, Outcome.COMPLETE, answers, {})
    found = recorded(settled, result_payloads([settled])[0], quorum=1)
    assert found is not None
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "monday.rec"
    with Writer(path, CLASSES) as writer:
        for number in range(20):
            writer.write(query(number))
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "made_K3_a1_s0.npz"
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 30)
    logits = rng.normal(0, 1, (3, 30, 4))
    logits[:, np.arange(30), labels] += 1.5
    np.savez(
        path,
        logits=logits.astype(np.float16),
        labels=labels,
        class_counts=np.ones((3, 4)),
        log_density_ratio=np.zeros((3, 30)),
    )
    return path


def run(*words: object) -> tuple[int, list[dict[str, object]]]:
    result = CliRunner().invoke(app("replay"), ["replay", *map(str, words), "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_what_was_written_is_read_and_nobody_else_may_read_it(file: Path) -> None:
    found = read_recording(file)
    assert found.classes == CLASSES
    assert found.queries == tuple(query(number) for number in range(20))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_never_written_over(file: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        Writer(file, CLASSES)


def test_what_a_crash_cut_off_is_lost_and_no_more(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])
    assert len(read_recording(file).queries) == 19


def test_a_trace_loads_as_queries_of_one_row_with_their_right_labels(trace: Path) -> None:
    found = read_recording(trace)
    assert len(found.queries) == 30
    again = compare(found.queries, redecide(found.queries))
    assert again.identical == 30
    assert again.accuracy is not None
    assert again.accuracy > 0.5


def test_other_rules_and_participants_stand_beside_what_was(trace: Path) -> None:
    code, found = run(trace, "--rule", "hard", "--rule", "median", "--participants", "p0,p2")
    assert code == 0
    assert [one["decided"] for one in found] == ["as recorded", "the same rule", "hard", "median"]
    assert found[0]["identical"] == found[0]["queries"] == 30
    assert all(one["outcomes"] == {"complete": 30} for one in found)
    assert all(isinstance(one["accuracy"], float) for one in found)


def test_health_says_how_each_participant_does_and_how_it_is_known_to_do(trace: Path) -> None:
    result = CliRunner().invoke(app("health"), ["health", str(trace), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [one["member"] for one in found] == ["p0", "p1", "p2"]
    for one in found:
        assert 0 < one["right"] < 1
        assert 0 < one["health"]["accuracy"] <= 1
        assert (one["counts"], one["drifted"]) == (True, None)
    shown = CliRunner().invoke(app("health"), ["health", str(trace), "--window", "10"])
    assert "accuracy is estimated" in shown.stdout


def test_an_earlier_deadline_shows_in_the_outcomes(file: Path) -> None:
    code, found = run(file, "--deadline", "20")
    assert code == 0
    assert found[1]["outcomes"] == {"partial": 20}
    assert found[1]["accuracy"] is None


def test_a_result_that_is_not_the_same_to_the_bit_fails(tmp_path: Path) -> None:
    one = query(1)
    label, scores, *certificate = one.result.outputs
    other = scores.model_copy(update={"data": scores.data[:-1] + bytes([scores.data[-1] ^ 1])})
    result = one.result.model_copy(update={"outputs": (label, other, *certificate)})
    path = tmp_path / "other.rec"
    with Writer(path, CLASSES) as writer:
        writer.write(one.model_copy(update={"result": result}))
    code, found = run(path)
    assert code == 1
    assert found[0]["identical"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rule", "sofd"], "did you mean 'soft'"),
        (["--rule", "competence_density"], "query 1 was asked under soft, and the answer of ann"),
        (["--rule", "competence_entropy"], "does not say how many examples ann learnt from"),
        (["--rule", "tta_mean"], "nobody answered several forms of it"),
        (["--participants", "ann,zoe"], "nobody of that name was asked: zoe"),
    ],
)
def test_what_cannot_be_tried_is_refused(file: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app("replay"), ["replay", str(file), *words])
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)


def test_a_trace_holds_the_weights_of_density_and_no_others(trace: Path) -> None:
    code, found = run(trace, "--rule", "competence_density", "--participants", "p0,p2")
    assert code == 0
    assert found[2]["outcomes"] == {"complete": 30}
    words = ["replay", str(trace), "--rule", "competence_energy"]
    result = CliRunner().invoke(app("replay"), words)
    assert "carries no weight for competence_energy" in str(result.exception)


def broken(number: int) -> Recorded:
    one = query(1)
    first, second = one.answers
    data = np.array([1.0, -1.0]).astype("<f8").tobytes()
    negative = Tensor(name="weight", datatype=Datatype.FP64, shape=(2,), data=data)
    changes: list[dict[str, object]] = [
        {"answers": (first,)},
        {"answers": (first, first)},
        {"answers": (first, second.model_copy(update={"prediction": one.result.outputs[0]}))},
        {"truth": first.prediction},
        {"result": one.result.model_copy(update={"contributors": ()})},
        {
            "result": one.result.model_copy(
                update={
                    "outputs": (
                        one.result.outputs[0].model_copy(update={"datatype": Datatype.FP64}),
                    )
                }
            )
        },
        {"answers": (first.model_copy(update={"own": negative}), second)},
    ]
    return one.model_copy(update=changes[number])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "contributors without an answer: bob"),
        (1, "a participant has two answers"),
        (2, r"the prediction of bob is not FP64 \[2, 3\]"),
        (3, r"the right labels are not INT64 \[2\]"),
        (4, "complete, but nobody contributed"),
        (5, r"the labels of the result are not INT64 \[2\]"),
        (6, r"the weight of ann is not FP64 \[2\], finite, at least 0"),
    ],
)
def test_a_query_that_contradicts_itself_is_refused(tmp_path: Path, number: int, said: str) -> None:
    path = tmp_path / "bad.rec"
    with Writer(path, CLASSES) as writer:
        writer.write(query(0))
        writer.write(broken(number))
    with pytest.raises(ConfigError, match=f"query 2: {said}"):
        read_recording(path)


@pytest.mark.parametrize(
    "content", [b"", b"no recording at all, but long enough", b"\x00\x00\x00\x01\xc0"]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.rec"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no recording"):
        read_recording(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recording(tmp_path / "gone.rec")
