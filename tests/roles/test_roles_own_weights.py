"""Rules by which participants weigh themselves, live: participant, answer, whoever decides."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from members import parts
from stage import odd, rows, say_examples, until

from fi_stream import connect
from fi_stream.aggregation.augmented import tta_mean, tta_weights
from fi_stream.aggregation.competence import Standard, density_weights, energy, energy_weights
from fi_stream.aggregation.density import fit
from fi_stream.aggregation.evaluate import Gathered, evaluate
from fi_stream.aggregation.evidence import OWN
from fi_stream.aggregation.replay import compare, redecide
from fi_stream.cli.findings import check_file
from fi_stream.errors import ConfigError, ModelError
from fi_stream.events.tensors import Datatype, Tensor, to_tensor
from fi_stream.federation.policy import SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.models.prediction import softmax
from fi_stream.roles import participant, parting
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.participant import run_participant
from fi_stream.roles.recordings import read_recording
from fi_stream.roles.responding import needs
from fi_stream.sealing.epochs import OwnEpoch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from stage import Stage

    from fi_stream.events.header import Ask

    Array = NDArray[np.float64]

MODEL = """\
import numpy as np


class Own:
    def predict(self, inputs):
        return inputs["x"][:, {order}].astype(np.float64) * {scale}

    def features(self, inputs):
        x = inputs["x"].astype(np.float64)
        return np.hstack([np.tanh(x), self.predict(inputs)])

    def forms(self, inputs):
        return [{{"x": inputs["x"]}}, {{"x": inputs["x"] / 2}}, {{"x": inputs["x"] + 1}}]


load = Own
"""
ORDERS = {"p1": [0, 1, 2], "p2": [1, 0, 2], "p3": [2, 1, 0]}
SCALES = {"p1": 1.0, "p2": 0.5, "p3": 2.0}
EXAMPLES = {"p1": 10, "p2": 20, "p3": 30}
PARTICIPANTS = tuple(ORDERS)
EVERYONE = ("agg", "helper", *PARTICIPANTS)
TTA = ("tta_mean", "tta_l2", "tta_cosine", "tta_kl", "tta_js")
RULES = ("competence_density", "competence_energy", *TTA)


def logits_of(member: str, x: NDArray[Any]) -> Array:
    return x[:, ORDERS[member]].astype(np.float64) * SCALES[member]


def features_of(member: str, x: NDArray[Any]) -> Array:
    return np.hstack([np.tanh(x.astype(np.float64)), logits_of(member, x)])


def training_of(member: str) -> NDArray[Any]:
    """Each participant has learnt from what one class looks like."""
    drawn = rows(60, seed=ord(member[1]))
    drawn[:, ORDERS[member][0]] += 3
    return drawn


def prepared(build: Callable[..., Stage], policy: Mapping[str, Any] | None = None) -> Stage:
    """A federation whose participants have all that these rules need."""
    stage = build(
        policy={
            "rules": RULES,
            "protections": ("trusted", "blind", "secagg"),
            "secagg": SecaggPolicy(k_min=2),
            **(policy or {}),
        }
    )
    say_examples(stage, EXAMPLES)
    for member in PARTICIPANTS:
        file = stage.file(member)
        [module] = file.parent.glob("model_*.py")
        module.write_text(MODEL.format(order=ORDERS[member], scale=SCALES[member]))
        np.savez(file.with_name("training.npz"), x=training_of(member))
        np.savez(file.with_name("held_out.npz"), x=training_of(member)[:20])
        more = (
            'gives = "logits"\ntraining = "training.npz"\nheld_out = "held_out.npz"\nforms = "own"'
        )
        file.write_text(file.read_text().replace('gives = "probabilities"', more))
    return stage


def decided(rule: str, predictions: Mapping[str, Array], own: Mapping[str, Array]) -> Array:
    """The scores that the pure functions give."""
    sizes = {member: float(size) for member, size in EXAMPLES.items()}
    [decision] = evaluate([Gathered(bytes(32), rule, predictions, sizes, own)])
    return decision.scores


def by_density(asked: NDArray[Any], past: NDArray[Any] | None) -> Array:
    ratios = {
        member: fit(features_of(member, training_of(member)), features_of(member, past))
        for member in PARTICIPANTS
        if past is not None
    }
    own = {
        member: density_weights(ratio.log_ratio(features_of(member, asked)))
        for member, ratio in ratios.items()
    }
    said = {member: softmax(logits_of(member, asked)) for member in PARTICIPANTS}
    return decided("competence_density", said, own)


def by_energy(asked: NDArray[Any]) -> Array:
    own = {}
    for member in PARTICIPANTS:
        held_out = Standard.of(energy(logits_of(member, training_of(member)[:20])))
        own[member] = energy_weights(energy(logits_of(member, asked)), held_out)
    said = {member: softmax(logits_of(member, asked)) for member in PARTICIPANTS}
    return decided("competence_energy", said, own)


def by_forms(rule: str, asked: NDArray[Any]) -> Array:
    said, own = {}, {}
    for member in PARTICIPANTS:
        forms = (asked, asked / 2, asked + 1)
        stack = np.stack([softmax(logits_of(member, form)) for form in forms])
        said[member] = tta_mean(stack)
        if rule != "tta_mean":
            own[member] = tta_weights(stack, rule)
    return decided(rule, said, own)


def close(found: Array, expected: Array) -> None:
    """The same but for the last bits: a matrix product may add in another order."""
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


async def learnt(stage: Stage, client: str, times: int = 1) -> None:
    """Wait until each participant has learnt of that client so often."""
    await until(lambda: len(stage.events("ratio.learnt", client=client)) >= 3 * times)


async def test_density_weighs_by_the_client_s_own_past_queries(
    build: Callable[..., Stage],
) -> None:
    stage = prepared(build)
    past, asked = rows(100, 1), rows(5, 2)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        first = await client.ask(past, deadline=10.0)
        await learnt(stage, "alice")
        trusted = await client.ask(asked, deadline=10.0)
        blind = await client.ask(asked, deadline=10.0, protection="blind")
        summed = await client.ask(asked, deadline=10.0, protection="secagg")
    assert {one.outcome for one in (first, trusted, blind, summed)} == {"complete"}
    close(first.decided.scores, by_density(past, None))
    close(trusted.decided.scores, by_density(asked, past))
    close(blind.decided.scores, trusted.decided.scores)
    assert np.allclose(summed.decided.scores, trusted.decided.scores, atol=5e-3)
    assert not np.allclose(trusted.decided.scores, by_density(asked, None), atol=0.05)


@pytest.mark.parametrize("rule", ["competence_energy", *TTA])
async def test_each_rule_says_live_what_its_pure_functions_say(
    build: Callable[..., Stage], rule: str
) -> None:
    stage, asked = prepared(build), rows(5, 2)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        trusted, blind, summed = [
            await client.ask(asked, deadline=10.0, rule=rule, protection=protection)
            for protection in ("trusted", "blind", "secagg")
        ]
        assert client.refusals == {}
    assert {one.outcome for one in (trusted, blind, summed)} == {"complete"}
    expected = by_energy(asked) if rule == "competence_energy" else by_forms(rule, asked)
    close(trusted.decided.scores, expected)
    close(blind.decided.scores, trusted.decided.scores)
    assert np.allclose(summed.decided.scores, trusted.decided.scores, atol=5e-3)


async def test_queries_under_all_rules_at_once_are_each_answered_by_their_own(
    build: Callable[..., Stage],
) -> None:
    stage, asked = prepared(build), rows(3, 4)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        posted = {
            rule: client.post(asked, deadline=10.0, rule=rule) for rule in RULES for _ in range(3)
        }
        scores = {rule: (await one).decided.scores for rule, one in posted.items()}
    close(scores["competence_density"], by_density(asked, None))
    close(scores["competence_energy"], by_energy(asked))
    for rule in TTA:
        close(scores[rule], by_forms(rule, asked))


async def test_what_was_recorded_with_weights_is_decided_again_to_the_bit(
    build: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = prepared(build, {"recording": True})
    file, stop = tmp_path / "today.rec", asyncio.Event()
    async with stage.running(*PARTICIPANTS), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_aggregator(stage.file("agg"), stop, record=file))
        async with connect(stage.file("alice")) as client:
            await client.ask(rows(100, 1), deadline=10.0)
            await learnt(stage, "alice")
            for rule in RULES:
                result = await client.ask(rows(5, 2), deadline=10.0, rule=rule)
                assert result.outcome == "complete"
        stop.set()
    queries = read_recording(file).queries
    assert [one.ask.rule for one in queries] == [RULES[0], *RULES]
    found = compare(queries, redecide(queries))
    assert found.identical == found.queries == 1 + len(RULES)
    without = [
        one.model_copy(
            update={"answers": tuple(a.model_copy(update={"own": None}) for a in one.answers)}
        )
        for one in queries
    ]
    assert compare(queries, redecide(without)).identical < found.identical


async def test_only_a_client_s_own_queries_teach_what_it_is_told(
    build: Callable[..., Stage],
) -> None:
    stage = prepared(build)
    past, others, asked = rows(100, 1), rows(150, 7) - 5, rows(5, 2)
    async with (
        stage.running(*EVERYONE),
        connect(stage.file("alice")) as alice,
        connect(stage.file("bob")) as bob,
    ):
        await bob.ask(others, deadline=10.0)
        await learnt(stage, "bob")
        first = await alice.ask(past, deadline=10.0)
        await learnt(stage, "alice")
        second = await alice.ask(asked, deadline=10.0)
        third = await bob.ask(asked, deadline=10.0)
    close(first.decided.scores, by_density(past, None))
    close(second.decided.scores, by_density(asked, past))
    assert not np.allclose(second.decided.scores, third.decided.scores, atol=0.05)


WEIGHT = np.array([0.5, 0.5])
FORGED: dict[str, tuple[str, list[tuple[str, NDArray[Any]]], str]] = {
    "too large": ("competence_density", [("weight", np.array([1.0, 54.7]))], "not_a_prediction"),
    "the cap of another rule": ("tta_l2", [("weight", 2 * WEIGHT + 1)], "not_a_prediction"),
    "negative": ("competence_energy", [("weight", -WEIGHT)], "not_a_prediction"),
    "missing": ("competence_density", [], "wrong_form"),
    "twice": ("tta_kl", [("weight", WEIGHT), ("weight", WEIGHT)], "wrong_form"),
    "of another name": ("tta_kl", [("more", WEIGHT)], "wrong_form"),
    "where none belongs": ("tta_mean", [("weight", WEIGHT)], "wrong_form"),
    "of one row": ("tta_l2", [("weight", WEIGHT[:1])], "wrong_shape"),
    "in single precision": ("tta_l2", [("weight", WEIGHT.astype(np.float32))], "wrong_datatype"),
}


@pytest.mark.parametrize("protection", ["trusted", "blind"])
@pytest.mark.parametrize("how", [*FORGED, "not a number"])
async def test_a_forged_weight_is_refused_with_its_reason_and_the_others_decide(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, how: str, protection: str
) -> None:
    rule, more, reason = FORGED.get(how, ("tta_js", [], "not_finite"))
    tensors = [to_tensor(name, values) for name, values in more]
    if how == "not a number":
        nan = np.array([0.5, np.nan]).tobytes()
        tensors = [Tensor(name="weight", datatype=Datatype.FP64, shape=(2,), data=nan)]
    original = participant.response

    def forged(own: Any, query: Any, payload: Any, version: str) -> Any:
        if own.find(next(needs(query))).epoch.sender == "p2":
            payload = payload.model_copy(update={"outputs": (payload.outputs[0], *tensors)})
        return original(own, query, payload, version)

    monkeypatch.setattr(participant, "response", forged)
    stage, asked = prepared(build), rows(2)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(asked, deadline=10.0, rule=rule, protection=protection)
        refused = dict(client.refusals)
        if protection == "trusted":
            refused = dict(await running["agg"].stop())
    assert refused == {reason: 1}
    assert result.missing == {"p2": reason}
    assert [one.member for one in result.contributors] == ["p1", "p3"]


async def test_an_answer_by_another_rule_than_was_asked_is_refused(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its sender could choose the cap of its own weight."""
    original = OwnEpoch.seal

    def otherwise(self: Any, ask: Ask, reply: Any, payload: bytes) -> Any:
        if self.epoch.sender == "p2":
            ask = ask.model_copy(update={"rule": "competence_density"})
        return original(self, ask, reply, payload)

    monkeypatch.setattr(OwnEpoch, "seal", otherwise)
    stage, asked = prepared(build), rows(2)
    async with stage.running(*EVERYONE) as running, connect(stage.file("alice")) as client:
        result = await client.ask(asked, deadline=4.0, rule="tta_l2")
        refused = dict(await running["agg"].stop())
    assert result.missing == {"p2": "silent"}
    assert refused == {"wrong_query": 1}


def fail_where_odd(stage: Stage, method: str) -> None:
    """Have p2's model fail in a method on rows of `odd`."""
    [module] = stage.file("p2").parent.glob("model_*.py")
    head = f"def {method}(self, inputs):\n"
    text = module.read_text()
    assert head in text
    fails = f'{head}        assert not (inputs["x"][:, 3] == 77).any()\n'
    module.write_text(text.replace(head, fails))


@pytest.mark.parametrize(
    ("rule", "method"),
    [("competence_density", "features"), ("tta_mean", "forms"), ("competence_energy", "predict")],
)
async def test_where_a_model_fails_it_abstains_and_answers_the_next(
    build: Callable[..., Stage], rule: str, method: str
) -> None:
    stage = prepared(build)
    fail_where_odd(stage, method)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        failed, fine = [
            await client.ask(asked, deadline=10.0, rule=rule) for asked in (odd(2), rows(2))
        ]
    assert failed.missing == {"p2": "model_failed"}
    assert fine.missing == {}


NOISED = {
    "rules": RULES,
    "protections": ("secagg",),
    "secagg": SecaggPolicy(k_min=3, colluders=1, epsilon=32.0, delta=1e-5),
}


async def test_answers_with_weights_are_as_long_as_those_without_and_as_abstains(
    build: Callable[..., Stage],
) -> None:
    stage = prepared(build, {"rules": (*RULES, "soft")})
    fail_where_odd(stage, "predict")
    async with (
        stage.running(*EVERYONE),
        connect(stage.file("alice")) as client,
        stage.wire("bob", Role.CLIENT, announce=False) as wire,
    ):
        for rule in ("soft", "competence_density", "tta_l2"):
            result = await client.ask(odd(300), deadline=10.0, rule=rule)
            assert result.missing == {"p2": "model_failed"}
        sizes = Counter(
            len(record.value) - len(header.ask.rule) - len(header.reply.kind)
            for record in await wire.kept("fi.responses")
            for header in [parts(record.value)[1]]
        )
    assert list(sizes.values()) == [9]


async def test_under_noise_every_rule_is_summed_and_a_model_that_fails_does_not_show(
    build: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, weights = parting.contribution, []

    def contribution(prediction: Any, rule: str, share: float, own: Any) -> Any:
        weights.append((rule, own))
        return original(prediction, rule, share, own)

    monkeypatch.setattr(parting, "contribution", contribution)
    stage = prepared(build, NOISED)
    for member in PARTICIPANTS:
        file = stage.file(member)
        noise = (
            'mechanism = "gaussian"\nepsilon = 32.0\ndelta = 1e-5\nbudget = 10000\n'
            'ledger = "budget.ledger"'
        )
        file.write_text(file.read_text().replace('mechanism = "none"', noise))
    fail_where_odd(stage, "forms")
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        for rule in RULES:
            result = await client.ask(odd(2), deadline=10.0, rule=rule)
            assert (rule, result.outcome) == (rule, "complete")
            assert result.missing == {}
            assert result.guarantee.epsilon_query > 30
    assert sum(stage.events("stopped", member="p2")[0]["refused"].values()) == len(TTA)
    assert len(weights) == 3 * len(RULES)
    assert all((own is not None) == (rule in OWN) for rule, own in weights)


def without(stage: Stage, line: str, instead: str = "") -> None:
    file = stage.file("p1")
    text = file.read_text()
    assert line in text
    file.write_text(text.replace(line, instead))


LACKING = {
    "no held-out examples": ('held_out = "held_out.npz"', "", "write held_out = "),
    "no training examples": ('training = "training.npz"', "", "write training = "),
    "no forms": ('forms = "own"', "", 'write "rotations" for square images'),
    "rotations of no image": ('forms = "own"', 'forms = "rotations"', 'write "own"'),
    "probabilities": ('gives = "logits"', 'gives = "probabilities"', "reads logits"),
}


@pytest.mark.parametrize("what", LACKING)
async def test_what_a_rule_needs_and_a_participant_lacks_is_said_by_check_and_at_the_start(
    build: Callable[..., Stage], what: str
) -> None:
    line, instead, said = LACKING[what]
    stage = prepared(build)
    assert check_file(stage.file("p1")).mistakes == ()
    without(stage, line, instead)
    [mistake] = check_file(stage.file("p1")).mistakes
    assert said in mistake.what
    with pytest.raises(ConfigError, match=re.escape(said)):
        await run_participant(stage.file("p1"), asyncio.Event())


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({}, "cannot be read"),
    "one array, without a name": ({"x": rows(3)}, "has no array 'x', an input of the task"),
    "damaged": ({"x": rows(60)}, "cannot be read"),
    "another name": ({"y": rows(3)}, "has no array 'x', an input of the task"),
    "another shape": ({"x": rows(3)[:, :3]}, r"rows of shape \[3\] for input 'x'"),
    "another type": ({"x": rows(3).astype(complex)}, "has complex128 for input 'x'"),
    "no rows": ({"x": rows(3)[:0]}, "wants as many rows, one or more"),
    "a pickle": ({"x": np.array([{}])}, "cannot be read"),
    "what the model fails on": ({"x": rows(3) * np.inf}, "the model cannot answer the examples"),
}


@pytest.mark.parametrize("key", ["held_out", "training"])
@pytest.mark.parametrize("what", UNUSABLE)
async def test_examples_that_cannot_be_used_end_the_start(
    build: Callable[..., Stage], what: str, key: str
) -> None:
    arrays, said = UNUSABLE[what]
    stage = prepared(build)
    file = stage.file("p1").with_name(f"{key}.npz")
    file.unlink()
    if what == "one array, without a name":
        with file.open("wb") as opened:
            np.save(opened, arrays["x"])
    elif what == "damaged":
        np.savez_compressed(file, **arrays)
        whole = file.read_bytes()
        file.write_bytes(whole[:200] + bytes(100) + whole[300:])
    elif arrays:
        np.savez(file, **arrays)
    with pytest.raises(ModelError, match=said) as caught:
        await run_participant(stage.file("p1"), asyncio.Event())
    assert key in str(caught.value)


NO_MODEL = {
    "no forms": ("def forms", "def other", "has no `forms"),
    "forms of other rows": ('inputs["x"] / 2', 'inputs["x"][:1]', "is not as the task's inputs"),
    "forms of another type": ("/ 2", "/ np.float64(2)", "is not as the task's inputs"),
    "forms that raise": ('{"x": inputs["x"] / 2}', "nothing", "raised NameError on a trial"),
    "features that raise": ("np.tanh(x), self", "np.tanh(x)[:2], self", "raised ValueError on a"),
    "too many features": ("np.tanh(x)", "np.tile(x, 200)", "a row has 803 features"),
    "features that are no numbers": ("np.tanh(x)", "x / 0", "hold NaN"),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("what", NO_MODEL)
async def test_a_model_without_what_its_rules_need_ends_the_start(
    build: Callable[..., Stage], what: str
) -> None:
    old, new, said = NO_MODEL[what]
    stage = prepared(build)
    [module] = stage.file("p1").parent.glob("model_*.py")
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    with pytest.raises(ModelError, match=re.escape(said)):
        await run_participant(stage.file("p1"), asyncio.Event())
