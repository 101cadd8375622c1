"""Planted plaintext is found nowhere but where it belongs: rows, predictions and labels.

Sealed or not is looked for in bytes, so that it does not matter who made a mistake where: in all
that the broker keeps, in logs, dead letters, ledgers, metrics, pages, errors and reprs.
"""

from __future__ import annotations

import asyncio
import base64
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stage as staging
from pages import get, port_of, with_port
from stage import noise, until

from fi_stream import connect
from fi_stream.errors import QueryError
from fi_stream.events.payloads import Answer, QueryPayload, frame
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import to_tensor
from fi_stream.federation.member import Gives
from fi_stream.federation.policy import Limits, Protection, SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.federation.rows import encode_rows
from fi_stream.models.prediction import check
from fi_stream.roles.answering import Asked
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
ROWS = 24
SURE, UNSURE = 0.8765432112345, 0.0617283943827
MODEL = f"""
    if (x[:, 3] == 77).any():
        raise ValueError(f"it was {{x.tolist()}}")
    chosen = x[:, 0].astype(int) % 3
    return np.where(np.arange(3) == chosen[:, None], {SURE}, {UNSURE})
"""


def planted(seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows of numbers that nothing else has; their labels make a pattern that nothing else has."""
    drawn = np.random.default_rng(seed).integers(3_000, 9_000, (ROWS, 4)) + 0.0625
    drawn[:, 3] = 4321.0625
    return drawn.astype(np.float32)


def needles(drawn: np.ndarray[Any, Any]) -> dict[bytes, str]:
    """The forms in which rows, predictions or labels could be seen, and what each is."""
    labels = (drawn[:, 0].astype(int) % 3).astype("<i8")
    found = {}
    for what, array in (
        ("a row", drawn[0]),
        ("another row", drawn[-1]),
        ("a prediction", np.array([SURE])),
        ("a prediction", np.array([UNSURE])),
        ("a prediction", np.array([SURE, UNSURE])),
        ("a prediction", np.array([UNSURE, SURE])),
        ("a prediction in single precision", np.array([SURE, UNSURE, UNSURE], np.float32)),
        ("a prediction in single precision", np.array([UNSURE, UNSURE, SURE], np.float32)),
        ("labels", labels[:8]),
        ("labels", labels[8:16]),
    ):
        plain = array.tobytes()
        found[plain] = what
        found[plain.hex().encode()] = f"{what} in hexadecimal"
        for start in range(3):  # whatever stands before it
            coded = base64.b64encode(bytes(start) + plain)[4:-4]
            if len(coded) >= 8:  # four letters are in sealed bytes by chance, now and then
                found[coded] = f"{what} in base64"
    for number in (*drawn[0], drawn[0, 3], SURE, UNSURE):
        found[f"{number:.10g}"[:9].encode()] = "a number in words"
    found[str(labels[:8].tolist())[1:-1].encode()] = "labels in words"
    names = [("cat", "dog", "bird")[label] for label in labels[:8]]
    found[", ".join(map(repr, names)).encode()] = "names of labels in words"
    return found


def seen(places: dict[str, bytes], drawn: np.ndarray[Any, Any]) -> list[str]:
    return [
        f"{what} in {place}"
        for needle, what in needles(drawn).items()
        for place, content in places.items()
        if needle in content
    ]


async def exercise(stage: Stage, drawn: np.ndarray[Any, Any]) -> dict[str, bytes]:
    """Ask in every way that ends well or badly; returns all that is outside of the roles."""
    wrong = drawn.copy()
    wrong[:, 3] = 77
    errors = []
    for member in ("agg", "p1"):
        with_port(stage, member)
    protections = stage.federation.policy.protections
    everyone = (*EVERYONE, "helper") if Protection.SECAGG in protections else EVERYONE
    async with stage.running(*everyone), connect(stage.file("alice")) as client:
        for protection in protections:
            result = await client.ask(drawn, deadline=10.0, protection=protection)
            assert result.outcome == "complete"
            failed = await client.ask(wrong, deadline=5.0, protection=protection)
            assert failed.outcome in {"complete", "no_quorum"}
        for bad in (drawn[:, :3], np.where(drawn > 4000, np.nan, drawn), [["x"] * 4]):
            try:
                await client.ask(bad, deadline=5.0)
            except QueryError as error:
                errors.append("".join(traceback.format_exception(error)) + repr(error))
        assert len(errors) == 3
        async with stage.wire("alice", Role.CLIENT) as wire:
            ask, event = wire.query(drawn[:1], protection=protections[0])
            spoilt = bytearray(event.value)
            spoilt[-40] ^= 1  # poison: it goes to the dead letters
            await wire.put("fi.queries", ask.partition, bytes(spoilt))
            sealed = (await wire.kept("fi.responses"))[-1]
            await wire.put("fi.queries", sealed.source.number, sealed.value)
            await until(lambda: stage.events("refused", reason="wrong_topic"))
            async with asyncio.timeout(10):
                while not await wire.kept("fi.dead"):
                    pass
            pages = [
                (await get(port_of(stage, member), path))[1]
                for member in ("agg", "p1")
                for path in ("/metrics", "/readyz", "/livez")
            ]
            topics = {
                f"topic {topic.name}": b"".join(
                    repr((record.key, record.headers)).encode() + record.value
                    for record in await wire.kept(topic.name)
                )
                for topic in catalogue().topics
            }
    stores = {
        f"{file.name} of {file.parent.name}": file.read_bytes()
        for pattern in ("*/budget.ledger*", "*/releases.sqlite*")
        for file in stage.directory.glob(pattern)
    }
    return {
        **topics,
        **stores,
        "the log": repr(stage.logs).encode(),
        "pages": "".join(pages).encode(),
        "errors": "".join(errors).encode(),
    }


@pytest.mark.parametrize("form", ["probabilities", "label"])
@pytest.mark.parametrize("noised", [False, True])
async def test_no_plaintext_leaves_a_role_other_than_sealed(
    build: Callable[..., Stage], form: str, noised: bool
) -> None:
    rules = ("hard",) if form == "label" else ("soft",)
    privacy = staging.NO_NOISE
    if noised:
        privacy = noise(30.0, 1e6) if form == "label" else GAUSSIAN
    stage = build(
        privacy=privacy,
        policy={"form": form, "rules": rules},
        models=dict.fromkeys(EVERYONE[1:], MODEL),
    )
    drawn = planted()
    places = await exercise(stage, drawn)
    empty = {place for place, content in places.items() if not content}
    assert empty == {"topic fi.proposals", "topic fi.feedback"}
    assert sum("budget.ledger" in place for place in places) == 3 * noised
    assert seen(places, drawn) == []


@pytest.mark.parametrize("protection", [Protection.BLIND, Protection.SECAGG])
@pytest.mark.parametrize("noised", [False, True])
async def test_no_plaintext_leaves_a_role_under_any_protection(
    build: Callable[..., Stage], protection: Protection, noised: bool
) -> None:
    policy: dict[str, Any] = {"rules": ("soft",), "protections": (protection,)}
    if protection is Protection.SECAGG:
        policy["secagg"] = SecaggPolicy(k_min=3, **(SUM_NOISE if noised else {}))
        policy["limits"] = Limits(hop_ms=500)
    privacy = GAUSSIAN if noised else staging.NO_NOISE
    stage = build(privacy=privacy, policy=policy, models=dict.fromkeys(EVERYONE[1:], MODEL))
    drawn = planted()
    places = await exercise(stage, drawn)
    assert ("releases.sqlite of helper" in places) is (protection is Protection.SECAGG)
    assert bool(places["topic fi.proposals"]) is (protection is Protection.SECAGG)
    assert seen(places, drawn) == []


SUM_NOISE = {"epsilon": 30.0, "delta": 1e-6}
GAUSSIAN = (
    'mechanism = "gaussian"\nepsilon = 30.0\ndelta = 1e-6\nbudget = 1e6\nledger = "budget.ledger"'
)


@pytest.mark.kafka
async def test_no_plaintext_is_in_any_file_of_a_real_broker(
    logs: list[Any], tmp_path: Path
) -> None:
    absent = missing()
    if absent is not None:
        pytest.skip(f"no Apache Kafka: {absent}")
    with ApacheBroker() as broker:
        await apply(Connection.to(broker.bootstrap))
        policy = {
            "protections": tuple(Protection),
            "rules": ("soft",),
            "secagg": SecaggPolicy(k_min=3),
            "limits": Limits(hop_ms=500),
        }
        stage = staging.build(
            tmp_path / "f",
            broker.bootstrap,
            models=dict.fromkeys(EVERYONE[1:], MODEL),
            policy=policy,
            kafka="session.timeout.ms = 6000",
        )
        stage.logs = logs
        drawn = planted()
        places = await exercise(stage, drawn)
        [home] = [node._home for node in broker.nodes]
        files = {str(file.relative_to(home)): file.read_bytes() for file in _files(home)}
    segments = [name for name in files if name.endswith(".log") and "fi.results" in name]
    assert any(b"complete" in files[name] for name in segments)  # a Kafka header: in clear
    assert seen({**places, **files}, drawn) == []


def _files(home: Path) -> Iterator[Path]:
    return (file for file in home.rglob("*") if file.is_file())


def test_what_is_looked_for_is_what_would_be_there() -> None:
    """The search itself: every payload, unsealed, is found."""
    drawn = planted()
    inputs = encode_rows(drawn, staging.TASK)[1]
    predictions = np.full((ROWS, 3), UNSURE)
    predictions[np.arange(ROWS), drawn[:, 0].astype(int) % 3] = SURE
    scores = to_tensor("probabilities", predictions)
    labels = to_tensor("label", predictions.argmax(axis=1))
    assert not isinstance(scores, Refusal)
    assert not isinstance(labels, Refusal)
    places = {
        "query": frame(QueryPayload(inputs=inputs)),
        "answer": frame(Answer(form="probabilities", outputs=(scores,))),
        "labels": frame(Answer(form="label", outputs=(labels,))),
        "words": f"{drawn.tolist()} {predictions.tolist()}".encode(),
        "base64": base64.b64encode(b"x" + drawn.tobytes()),
    }
    found = seen(places, drawn)
    for what in (
        "a row in query",
        "a prediction in answer",
        "labels in labels",
        "a number in words in words",
        "a row in base64 in base64",
    ):
        assert what in found


def test_no_repr_shows_what_is_in_a_payload() -> None:
    drawn = planted()
    inputs = encode_rows(drawn, staging.TASK)[1]
    predictions = np.where(np.arange(3) == (drawn[:, 0].astype(int) % 3)[:, None], SURE, UNSURE)
    tensor = to_tensor("probabilities", predictions)
    assert not isinstance(tensor, Refusal)
    shown = {
        "query": QueryPayload(inputs=inputs),
        "answer": Answer(form="probabilities", outputs=(tensor,)),
        "asked": Asked(None, {"x": drawn}),  # type: ignore[arg-type]
        "checked": check(predictions, Gives.PROBABILITIES),
    }
    places = {name: f"{value!r} {value}".encode() for name, value in shown.items()}
    assert seen(places, drawn) == []
