"""A recording shows of each participant what it said, how fast, and since when it differs."""

from __future__ import annotations

import numpy as np

from fi_stream.aggregation.observing import observed, watch
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Missing, Outcome, ResultPayload
from fi_stream.events.recording import Recorded, RecordedAnswer
from fi_stream.events.refusals import Reason
from fi_stream.events.tensors import Datatype, Tensor

CLASSES = 4
SURE = 0.1 / 3 + (0.9 - 0.1 / 3) * np.eye(CLASSES)
MEMBERS = ("ann", "bob", "cyd", "dee")


def tensor(name: str, values: np.ndarray, datatype: Datatype) -> Tensor:
    data = values.astype(datatype.numpy).tobytes()
    return Tensor(name=name, datatype=datatype, shape=values.shape, data=data)


def query(
    number: int, said: dict[str, list[int]], truth: list[int] | None = None, after: int = 10
) -> Recorded:
    """Participants that are nine tenths sure of the label that they say of each row."""
    digest = number.to_bytes(32, "big")
    rows = len(next(iter(said.values()), truth or [0]))
    ask = Ask(
        query=digest[:16],
        partition=0,
        rule="soft",
        rows=rows,
        protection="trusted",
        created=100,
        deadline=600,
    )
    answers = tuple(
        RecordedAnswer(
            member=member,
            model="m",
            at=100 + after,
            prediction=tensor(
                "p", 0.1 / 3 + (0.9 - 0.1 / 3) * np.eye(CLASSES)[labels], Datatype.FP64
            ),
        )
        for member, labels in said.items()
    )
    return Recorded(
        client="c",
        ask=ask,
        digest=digest,
        participants=MEMBERS,
        quorum=1,
        answers=answers,
        result=ResultPayload(outcome=Outcome.NO_QUORUM),
        truth=None if truth is None else tensor("truth", np.array(truth), Datatype.INT64),
    )


def test_rows_of_all_queries_stand_side_by_side() -> None:
    queries = [
        query(1, {"ann": [0, 1], "bob": [2, 3]}, truth=[0, 3], after=5),
        query(2, {"cyd": [1]}, after=20),
    ]
    window, truth = observed(queries, MEMBERS)
    assert window.labels.tolist() == [[0, 1, -1], [2, 3, -1], [-1, -1, 1], [-1, -1, -1]]
    assert truth.tolist() == [0, 3, -1]
    assert window.latency_ms[:3].tolist()[2][2] == 20
    assert np.nanmax(window.confidence) == 0.9
    assert np.isnan(window.confidence[3]).all()


def ended(one: Recorded, outcome: Outcome, missing: dict[str, Reason | None]) -> Recorded:
    told = [Missing(member=m, reason=why and why.code) for m, why in missing.items()]
    return one.model_copy(
        update={"result": ResultPayload(outcome=outcome, missing=tuple(told))}, deep=True
    )


def test_nobody_abstains_who_was_not_asked_or_not_waited_for() -> None:
    """As the metrics of a running aggregator have it: `Past` keeps the same of what settles."""
    said = {"ann": [0, 1], "bob": [2, 3]}
    silent: dict[str, Reason | None] = {"cyd": Reason.OVERLOADED, "dee": None}
    early = ended(query(1, said), Outcome.DECIDED, silent)
    late = ended(query(2, {"ann": [0], "dee": [1]}), Outcome.PARTIAL, {"bob": None, "cyd": None})
    before = ended(query(3, {"ann": [0]}), Outcome.COMPLETE, {"bob": Reason.OVERLOADED})
    before = before.model_copy(update={"participants": ("ann", "bob")})
    rejected = ended(query(4, {}), Outcome.REJECTED, {})
    window, truth = observed([early, late, before, rejected], MEMBERS)
    assert truth.size == 4
    assert window.waited.tolist() == [
        [True, True, True, True],
        [True, True, True, True],
        [True, True, True, False],
        [False, False, True, False],
    ]
    found = watch([early, late, before, rejected], CLASSES, rows=10)
    assert [one.health.abstained for one in found] == [0.0, 0.5, 1.0, 0.0]
    (last,) = (one for one in watch([before, early], CLASSES, rows=2) if one.member == "dee")
    assert last.health.abstained is None


def test_who_goes_wrong_is_found_and_who_answers_at_random_does_not_count() -> None:
    rng = np.random.default_rng(1)
    queries = []
    for number in range(900):
        truth = int(rng.integers(CLASSES))
        said = {m: [truth if rng.random() < 0.9 else int(rng.integers(CLASSES))] for m in MEMBERS}
        said["dee"] = [int(rng.integers(CLASSES))]
        if number >= 600:
            said["cyd"] = [(truth + 1) % CLASSES]
        queries.append(query(number, said, [truth]))
    ann, bob, cyd, dee = watch(queries, CLASSES, rows=500)
    assert ann.counts
    assert bob.counts
    assert not dee.counts
    assert cyd.drifted is not None
    assert 600 <= cyd.drifted < 650
    # of so few, each is a good part of what the others are held against: they fall too, but later
    assert all(one.drifted is None or one.drifted > cyd.drifted for one in (ann, bob))
    assert ann.right is not None
    assert ann.right > 0.85
    assert ann.health.latency_p50 == 10.0


def test_of_nothing_there_is_nothing_to_say() -> None:
    assert watch([], CLASSES, rows=10) == []
    found = watch([query(1, {})], CLASSES, rows=10)
    assert [one.member for one in found] == list(MEMBERS)
    assert all(one.health.accuracy is None and one.health.abstained == 1.0 for one in found)
