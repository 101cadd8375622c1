"""A mechanism of a participant's own: its laws, how it is taken, what an answer is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import own_noise
import pytest
from faulty import CLASSES, honest_gaussian, honest_label

from fi_stream.errors import ConfigError, ModelError
from fi_stream.federation.member import Mechanism, OwnMechanism, PrivacySection
from fi_stream.federation.policy import Form, Policy, Protection
from fi_stream.privacy.building import build
from fi_stream.privacy.compatibility import refuse_privacy
from fi_stream.privacy.contract import answers_at_start, broken_laws
from fi_stream.privacy.mechanisms import NoNoise, RandomisedResponse
from fi_stream.privacy.selection import ShardVotes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fi_stream.privacy.mechanisms import NoiseMechanism

LONG = 40_000
BROKEN = {
    "halved": "gives away epsilon",
    "floats": "it releases float64, and int64 is wanted",
    "free": "its cost is None",
    "zero": "a Charge above 0 is wanted",
    "inplace": "it changes the prediction",
    "twice": "two calls have the same noise",
    "telling": "and tells of the prediction",
    "flat": "(1, 4) is wanted",
    "cheap": "it declares epsilon 1 where it charges 2",
    "otherunit": "a Charge in nano_epsilon is wanted",
}


@pytest.fixture(scope="module")
def mine() -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "mine"}
    exec(compile(own_noise.source(), "mine.py", "exec"), scope)  # noqa: S102 - the tests' own
    return scope


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "noise_of_mine.py").write_text(own_noise.source())
    monkeypatch.syspath_prepend(tmp_path)
    return "noise_of_mine"


@pytest.mark.parametrize(
    "ours",
    [
        honest_label,
        honest_gaussian,
        lambda: RandomisedResponse(CLASSES, 2.0, levels=4),
        lambda: RandomisedResponse(CLASSES, 32.0),  # of which hardly ever any noise is seen
        lambda: RandomisedResponse(CLASSES, 0.01),
    ],
)
def test_our_own_mechanisms_keep_the_laws(ours: Callable[[], NoiseMechanism]) -> None:
    assert broken_laws(ours(), CLASSES) == []


def test_what_keeps_them_has_nothing_said_of_it(mine: dict[str, Any]) -> None:
    assert broken_laws(mine["laplace"](2.0, 0.0, CLASSES, Form.PROBABILITIES), CLASSES) == []


def test_what_has_no_noise_has_no_cost() -> None:
    [law] = broken_laws(NoNoise(Form.LABEL), CLASSES)
    assert "nothing would be rationed" in law


def test_noise_that_hides_one_vote_does_not_hide_an_answer() -> None:
    [law] = broken_laws(ShardVotes(9, 1.0), CLASSES)
    assert "gives away epsilon" in law


def test_a_thousand_classes_are_tried_in_short(mine: dict[str, Any]) -> None:
    asked = answers_at_start(Form.PROBABILITIES, 1_000)
    assert asked < answers_at_start(Form.PROBABILITIES, 10) == answers_at_start(Form.LABEL, 1_000)
    honest = mine["laplace"](2.0, 0.0, 1_000, Form.PROBABILITIES)
    assert broken_laws(honest, 1_000, asked) == []


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_each_broken_law_is_found(mine: dict[str, Any], case: str) -> None:
    for _ in range(3):  # the game may choose a bad threshold, once in hundreds
        broken = broken_laws(mine[case](2.0, 0.0, CLASSES, Form.PROBABILITIES), CLASSES, LONG)
        if broken:
            break
    assert any(BROKEN[case] in law for law in broken), broken


def section(mechanism: str, path: Path, **more: Any) -> PrivacySection:
    return PrivacySection.model_validate({**own_keys(path), "mechanism": mechanism, **more})


def own_keys(path: Path) -> dict[str, Any]:
    return {"epsilon": 2.0, "budget": 100.0, "ledger": path / "budget.ledger"}


def built(mechanism: str, path: Path, **more: Any) -> NoiseMechanism:
    return build(section(mechanism, path, **more), Form.PROBABILITIES, CLASSES)


def test_one_of_ones_own_is_built_and_charges_and_declares_as_it_says(
    module: str, tmp_path: Path
) -> None:
    noise = built(f"{module}:laplace", tmp_path)
    assert noise.cost is not None
    assert noise.cost.value == pytest.approx(2.0)
    declared = noise.declare(3, noise.cost.times(5))
    assert declared is not None
    assert (declared.mechanism, declared.delta) == ("my_laplace", 0.0)
    assert (declared.epsilon, declared.total) == (pytest.approx(6.0), pytest.approx(10.0))
    released = noise.release(np.full((3, CLASSES), 0.25))
    assert (released.values.shape, released.scale) == ((3, CLASSES), 1000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("noise_of_mine:gone", "has no function 'gone'"),
        ("noise_of_mine:fails", "RuntimeError: not today"),
        ("noise_of_mine:floats", "int64 is wanted"),
        ("noise_of_mine:seeded", "two that are built alike have the same noise"),
        ("noise_of_mine:named", "'gaussian', which is one of ours"),
        ("noise_of_mine:dear", "write epsilon = 4 or more"),
        ("not_installed_anywhere:noise", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_used_is_refused_with_why(
    module: str, tmp_path: Path, name: str, said: str
) -> None:
    assert module
    with pytest.raises(ConfigError, match=said):
        built(name, tmp_path)


def test_one_that_gives_another_form_than_the_policy_is_refused(
    module: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="gives form 'probabilities'"):
        build(section(f"{module}:laplace", tmp_path), Form.LABEL, CLASSES)


@pytest.mark.parametrize(("rows", "said"), [(7, "RuntimeError: seven"), (9, "int64 is wanted")])
def test_each_answer_is_looked_at_before_it_leaves(
    module: str, tmp_path: Path, rows: int, said: str
) -> None:
    noise = built(f"{module}:later", tmp_path)
    with pytest.raises(ModelError, match=said):
        noise.release(np.full((rows, CLASSES), 0.25))
    assert len(noise.release(np.full((8, CLASSES), 0.25)).values) == 8


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("protection", list(Protection))
def test_it_goes_with_votes_and_sums_where_each_answer_is_read(
    tmp_path: Path, form: Form, protection: Protection
) -> None:
    own = section("mypkg:noise", tmp_path)
    for rule in ("hard", "soft", "entropy", "mypkg:my_rule"):
        policy = Policy(form=form, rules=(rule,), protections=(protection,))
        reason = refuse_privacy(policy, own)
        if rule in {"hard", "soft"} and protection is not Protection.SECAGG:
            assert reason is None
        else:
            assert reason is not None
            assert "mypkg:noise" in reason
            assert "module:callable" not in reason


def test_a_name_is_one_of_ours_or_a_reference(tmp_path: Path) -> None:
    own = section("mypkg.noise:laplace", tmp_path, delta=1e-6).mechanism
    assert isinstance(own, OwnMechanism)
    assert own.value == "mypkg.noise:laplace"
    none = PrivacySection.model_validate({"mechanism": "none"})
    assert none.mechanism is Mechanism.NONE
    for wrong in ("mypkg:", ":noise", "my pkg:noise", "mypkg:noise\n", "laplace", 7):
        with pytest.raises(ValueError, match="module:callable"):
            PrivacySection.model_validate({**own_keys(tmp_path), "mechanism": wrong})
