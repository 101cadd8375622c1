"""A result says what was decided, by whom, and why the others are missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.results import result_payloads
from fi_stream.events.header import Ask
from fi_stream.events.payloads import (
    Contributor,
    Missing,
    Noise,
    Outcome,
    ResultPayload,
    frame,
    unframe,
)
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import to_array
from fi_stream.values import BrokerMillis

NOISE = Noise(mechanism="gaussian", epsilon=2.0, delta=1e-6, total=4.0)


def asked(number: int = 0, rule: str = "soft", rows: int = 2) -> Asked:
    ask = Ask(
        query=number.to_bytes(16, "big"),
        partition=0,
        rule=rule,
        rows=rows,
        protection="trusted",
        created=0,
        deadline=500,
    )
    return Asked("alice", number.to_bytes(32, "big"), ask, 1, frozenset())


def answer(member: str, values: list[list[float]], noise: Noise | None = None) -> Given:
    answered = Answered(member, b"d" * 32, BrokerMillis(1))
    return Given(answered, f"m-{member}", np.array(values), noise=noise)


def partial(number: int = 0, rule: str = "soft") -> Settled:
    answers = {
        "p1": answer("p1", [[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]]),
        "p2": answer("p2", [[0.4, 0.6, 0.0], [0.0, 1.0, 0.0]], NOISE),
    }
    missing = {"p3": Reason.OVER_BUDGET, "p4": None}
    return Settled(asked(number, rule), Outcome.PARTIAL, answers, missing)


def no_quorum(number: int = 0) -> Settled:
    answers = {"p1": answer("p1", [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])}
    return Settled(asked(number), Outcome.NO_QUORUM, answers, {"p2": None})


def rejected(number: int = 0) -> Settled:
    missing = dict.fromkeys(("p1", "p2"))
    return Settled(asked(number), Outcome.REJECTED, {}, missing, Reason.TOO_LARGE)


def test_a_decided_result_has_labels_scores_contributors_and_reasons() -> None:
    (payload,) = result_payloads([partial()])
    labels, scores, certified, margin = (to_array(tensor) for tensor in payload.outputs)
    assert not isinstance(labels, Refusal)
    assert not isinstance(scores, Refusal)
    assert [t.name for t in payload.outputs] == ["label", "scores", "withstands", "margin"]
    assert not isinstance(certified, Refusal)
    assert certified.tolist() == [0, 0]
    np.testing.assert_allclose(margin, [0.2, 0.0], atol=1e-3)
    assert labels.shape == (2,)
    assert labels[0] == 0
    assert labels[1] in {1, 2}
    np.testing.assert_allclose(scores, [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5]])
    assert payload.contributors == (
        Contributor(member="p1", model="m-p1", weight=0.5),
        Contributor(member="p2", model="m-p2", noise=NOISE, weight=0.5),
    )
    assert payload.missing == (
        Missing(member="p3", reason=Reason.OVER_BUDGET.code),
        Missing(member="p4"),
    )
    assert payload.outcome is Outcome.PARTIAL
    assert payload.reason is None


def test_below_the_quorum_nothing_is_decided_and_nobody_contributes() -> None:
    """Also what the few said stays with the aggregator."""
    (payload,) = result_payloads([no_quorum()])
    assert payload.outputs == ()
    assert payload.contributors == ()
    assert payload.outcome is Outcome.NO_QUORUM


def test_a_rejected_query_has_its_reason() -> None:
    (payload,) = result_payloads([rejected()])
    assert payload.outcome is Outcome.REJECTED
    assert payload.reason == Reason.TOO_LARGE.code
    assert payload.outputs == ()


def test_nothing_settled_gives_no_payload() -> None:
    assert result_payloads([]) == []


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["partial", "no quorum", "rejected"]),
            st.sampled_from(["soft", "hard", "entropy"]),
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=50)
def test_a_result_is_the_same_alone_and_beside_others(kinds: list[tuple[str, str]]) -> None:
    made = {
        "partial": partial,
        "no quorum": lambda number, _: no_quorum(number),
        "rejected": lambda number, _: rejected(number),
    }
    together = [made[kind](number, rule) for number, (kind, rule) in enumerate(kinds)]
    alone = [frame(*result_payloads([one])) for one in together]
    assert [frame(payload) for payload in result_payloads(together)] == alone


def test_a_payload_reads_back_as_it_was() -> None:
    for payload in result_payloads([partial(), no_quorum(), rejected()]):
        assert unframe(frame(payload), ResultPayload) == payload


def test_a_result_says_what_each_answer_weighed_and_by_how_much_its_label_leads() -> None:
    sure, unsure = [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]
    rows = {"p1": answer("p1", [sure, sure]), "p2": answer("p2", [unsure, sure])}
    (payload,) = result_payloads([Settled(asked(1, "entropy"), Outcome.COMPLETE, rows, {})])
    # exp(-H) is 1 where one is sure and a half between two classes
    weights = [each.weight for each in payload.contributors]
    assert weights == pytest.approx([(2 / 3 + 1 / 2) / 2, (1 / 3 + 1 / 2) / 2])
    margin = to_array(payload.outputs[3])
    np.testing.assert_allclose(margin, [(1.0 - 0.25) / 2, 1.0], atol=1e-3)
    (payload,) = result_payloads([Settled(asked(1, "median"), Outcome.COMPLETE, rows, {})])
    assert [each.weight for each in payload.contributors] == [None, None]


def test_a_label_says_how_many_contributors_it_withstands_where_that_is_bounded() -> None:
    def certified(rule: str, *predictions: list[float]) -> list[int] | None:
        answers = {f"p{at}": answer(f"p{at}", [one]) for at, one in enumerate(predictions)}
        settled = Settled(asked(1, rule, rows=1), Outcome.COMPLETE, answers, {})
        outputs = {
            tensor.name: to_array(tensor) for tensor in result_payloads([settled])[0].outputs
        }
        found = outputs.get("withstands")
        return None if found is None or isinstance(found, Refusal) else found.tolist()

    sure, other = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    assert certified("hard", *[sure] * 5) == [2]
    assert certified("hard", *[sure] * 4, other) == [1]
    assert certified("hard", sure, other) == [0]
    assert certified("soft", *[sure] * 5) == [2]
    # each may add up to a thousandth more than 1: of two against two nobody is sure
    assert certified("soft", *[sure] * 3) == [1]
    noised = [1.3, -0.2, -0.1]
    assert certified("soft", *[noised] * 5) is None
    assert certified("hard", *[noised] * 5) == [2]
    assert certified("median", *[sure] * 5) is None
