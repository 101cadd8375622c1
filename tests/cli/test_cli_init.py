"""`fi-stream init`: a complete federation that `check` finds nothing wrong with."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fi_stream.federation.files import load_as, load_federation
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role
from fi_stream.sealing.identity import load_identities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("count", [1, 3, 4])
def test_what_init_makes_is_found_right(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, count: int
) -> None:
    home = tmp_path / "fed"
    code, out, err = cli("init", home, "--participants", str(count), "--name", "ward-7")
    assert (code, err) == (0, "")
    files = [home / "federation.toml", *home.glob("*/member.toml")]
    assert len(files) == count + 3
    code, checked, err = cli("check", *files)
    assert (code, err) == (0, "")
    assert checked.count("ok ") == count + 3
    federation = load_federation(home / "federation.toml")
    assert federation.name == "ward-7"
    assert len(federation.participants) == count
    assert count / 2 < federation.policy.quorum <= count
    assert all(str(file) in out for file in files[1:])


def test_every_member_can_take_its_seat(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    cli("init", tmp_path / "fed", "--bootstrap", "kafka.example:9093")
    seats = {"p1": Role.PARTICIPANT, "aggregator": Role.AGGREGATOR, "client": Role.CLIENT}
    for name, role in seats.items():
        member, federation = load_as(role, tmp_path / "fed" / name / "member.toml")
        assert load_identities(member, federation).member == name
        assert member.kafka == {"bootstrap.servers": "kafka.example:9093"}


def test_the_sample_models_fit_the_task_and_differ(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    cli("init", tmp_path / "fed")
    task = load_federation(tmp_path / "fed" / "federation.toml").task
    flowers = np.array([[5.1, 3.5, 1.4, 0.2], [6.6, 3.0, 5.6, 2.1]], dtype=np.float32)
    answers = []
    for name in ("p1", "p2", "p3"):
        load = runpy.run_path(str(tmp_path / "fed" / name / "model.py"))["load"]
        inputs = {task.inputs[0].name: flowers}
        answers.append(load().predict(inputs))
        assert np.array_equal(answers[-1], load().predict(inputs))
        assert answers[-1].shape == (2, len(task.classes))
        assert [task.classes[i] for i in answers[-1].argmax(axis=1)] == ["setosa", "virginica"]
    assert not np.allclose(answers[0], answers[1])
    assert not np.allclose(answers[1], answers[2])


def test_with_secagg_there_is_a_helper_and_every_level_of_protection(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, _ = cli("init", tmp_path / "fed", "--secagg")
    assert code == 0
    files = {name: tmp_path / "fed" / name / "member.toml" for name in ("helper", "client")}
    assert f"fi-stream helper {files['helper']}" in out
    assert f"fi-stream ask --protection secagg {files['client']}" in out
    assert out.count("fi-stream participant") == 3
    settings, federation = load_as(Role.HELPER, files["helper"])
    assert load_identities(settings, federation).member == "helper"
    assert settings.helper is not None
    assert federation.policy.protections == tuple(Protection)
    assert federation.least_answers == 2
    code, checked, err = cli("check", tmp_path / "fed" / "federation.toml", *files.values())
    assert (code, err) == (0, ""), checked


def test_one_participant_cannot_be_hidden_among_others(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = cli("init", tmp_path / "fed", "--secagg", "--participants", "1")
    assert code == 3
    assert "--participants 2" in err
    assert not (tmp_path / "fed").exists()


def test_a_directory_in_use_is_left_alone(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for directory in (tmp_path, tmp_path / "notes.txt"):
        code, out, err = cli("init", directory)
        assert (code, out) == (3, "")
        assert f"{directory}: is not empty" in err
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_directory_will_do(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    assert cli("init", tmp_path)[0] == 0
    assert (tmp_path / "federation.toml").is_file()


@pytest.mark.parametrize("words", [["--participants", "0"], ["--name", "A b"]])
def test_wrong_options_make_nothing(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str]
) -> None:
    assert cli("init", tmp_path / "fed", *words)[0] == 2
    assert not (tmp_path / "fed").exists()
