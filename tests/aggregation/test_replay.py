"""Recorded queries are decided again to the bit, and otherwise when something is otherwise."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.replay import compare, recorded, redecide
from fi_stream.aggregation.results import outputs_of, result_payloads
from fi_stream.aggregation.rules import RULES
from fi_stream.aggregation.whatif import AS_IT_WAS, WhatIf, settled_again
from fi_stream.errors import ConfigError
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.events.recording import Head, Recorded, framed, read_head, read_queries
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_array
from fi_stream.values import BrokerMillis

MEMBERS = ("ann", "bob", "cyd")
QUORUM = 2


def settled(number: int, rule: str, came: dict[str, int], rows: int = 2) -> Settled:
    """A query whose participants answered after so many milliseconds."""
    rng = np.random.default_rng(number)
    digest = number.to_bytes(32, "big")
    ask = Ask(
        query=digest[:16],
        partition=0,
        rule=rule,
        rows=rows,
        protection="trusted",
        created=1000,
        deadline=1500,
    )
    asked = Asked("client", digest, ask, 1, frozenset(MEMBERS))
    answers = {
        member: Given(
            Answered(member, digest, BrokerMillis(1000 + after)),
            "model",
            rng.dirichlet(np.ones(4) / 2, rows),
        )
        for member, after in sorted(came.items())
    }
    missing = {member: None for member in MEMBERS if member not in came}
    outcome = Outcome.COMPLETE if not missing else Outcome.PARTIAL
    if len(came) < QUORUM:
        return Settled(asked, Outcome.NO_QUORUM, answers, missing)
    return Settled(asked, outcome, answers, missing)


def recording(*queries: Settled, truth: int | None = None) -> list[Recorded]:
    found = [
        recorded(one, payload, QUORUM)
        for one, payload in zip(queries, result_payloads(queries), strict=True)
    ]
    kept = [one for one in found if one is not None]
    if truth is None:
        return kept
    labels = np.full(2, truth).astype("<i8")
    tensor = Tensor(name="truth", datatype=Datatype.INT64, shape=(2,), data=labels.tobytes())
    return [one.model_copy(update={"truth": tensor}) for one in kept]


some_queries = st.lists(
    st.tuples(
        st.integers(0, 2**32),
        st.sampled_from(sorted(RULES)),
        st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 500)),
    ),
    max_size=6,
)


@given(some_queries)
def test_what_was_recorded_is_decided_again_to_the_bit(
    queries: list[tuple[int, str, dict[str, int]]],
) -> None:
    kept = recording(*(settled(*one) for one in queries))
    found = compare(kept, redecide(kept))
    assert found.identical == found.queries == len(queries)
    assert found.relabelled == 0


@given(some_queries)
def test_a_file_of_them_holds_what_went_in(
    queries: list[tuple[int, str, dict[str, int]]],
) -> None:
    kept = recording(*(settled(*one) for one in queries))
    file = BytesIO(b"".join(framed(one) for one in (Head(classes=("a", "b")), *kept)))
    assert read_head(file) == Head(classes=("a", "b"))
    assert list(read_queries(file)) == kept


def test_what_a_window_added_is_in_the_file_and_so_are_answers_that_it_left_out() -> None:
    whole = settled(3, "competence_density", dict.fromkeys(MEMBERS, 1))
    weights = np.array([0.5, 2.0])
    given = {member: replace(one, own=weights) for member, one in whole.answers.items()}
    one = replace(
        whole,
        answers={member: given[member] for member in ("ann", "bob")},
        left_out={"cyd": given["cyd"]},
        missing={"cyd": Reason.OVERLOADED},
        standing={"ann": 1.5, "bob": 0.5},
        rule="soft",
    )
    (kept,) = recording(one)
    assert kept.result.rule == "soft"
    assert [who.member for who in kept.result.contributors] == ["ann", "bob"]
    assert [(a.member, a.standing) for a in kept.answers] == [
        ("ann", 1.5),
        ("bob", 0.5),
        ("cyd", None),
    ]
    for answer in kept.answers:
        assert answer.own is not None
        assert (answer.own.name, answer.own.datatype) == ("weight", Datatype.FP64)
        assert np.array_equal(np.asarray(to_array(answer.own)), weights)
    (soft,) = recording(
        replace(
            one,
            asked=replace(one.asked, ask=one.asked.ask.model_copy(update={"rule": "soft"})),
            rule=None,
        )
    )
    assert soft.result.outputs == kept.result.outputs, "the rule that is named is the one"


def test_a_changed_bit_is_noticed() -> None:
    (one,) = recording(settled(3, "soft", dict.fromkeys(MEMBERS, 1)))
    label, scores, *certificate = one.result.outputs
    changed = scores.model_copy(update={"data": bytes([scores.data[0] ^ 1]) + scores.data[1:]})
    result = one.result.model_copy(update={"outputs": (label, changed, *certificate)})
    other = one.model_copy(update={"result": result})
    assert compare([other], redecide([other])).identical == 0


def test_an_earlier_deadline_leaves_out_who_came_later() -> None:
    kept = recording(settled(1, "soft", {"ann": 10, "bob": 20, "cyd": 30}))
    outcomes = {}
    for deadline in (5, 20, 30, 9999):
        (one,) = redecide(kept, WhatIf(deadline_ms=deadline))
        outcomes[deadline] = (one.outcome, one.contributors)
    assert outcomes == {
        5: (Outcome.NO_QUORUM, ()),
        20: (Outcome.PARTIAL, ("ann", "bob")),
        30: (Outcome.COMPLETE, MEMBERS),
        9999: (Outcome.COMPLETE, MEMBERS),
    }


def gated(came: dict[str, int], out: str) -> Recorded:
    """A query under a gate that left one out."""
    whole = settled(1, "soft", came)
    answers = {member: given for member, given in whole.answers.items() if member != out}
    one = replace(
        whole,
        outcome=whole.outcome if len(answers) >= QUORUM else Outcome.NO_QUORUM,
        answers=answers,
        left_out={out: whole.answers[out]},
        missing={**whole.missing, out: Reason.INDEPENDENT},
    )
    found = recorded(one, result_payloads([one])[0], QUORUM, gate=True)
    assert found is not None
    return found


def test_who_is_independent_does_not_count_and_is_accounted_for_once_it_has_answered() -> None:
    one = gated({"ann": 10, "bob": 20, "cyd": 30}, "cyd")
    ends = {}
    for deadline in (15, 25, 30, None):
        (again,) = redecide([one], WhatIf(deadline_ms=deadline))
        ends[deadline] = (again.outcome, again.contributors)
    assert ends == {
        15: (Outcome.NO_QUORUM, ()),
        25: (Outcome.PARTIAL, ("ann", "bob")),
        30: (Outcome.COMPLETE, ("ann", "bob")),
        None: (Outcome.COMPLETE, ("ann", "bob")),
    }
    (fewer,) = redecide([one], WhatIf(participants=frozenset({"ann", "cyd"})))
    assert fewer.outcome is Outcome.NO_QUORUM


def test_another_rule_has_a_gate_of_its_own_which_begins_with_nothing_learnt() -> None:
    few = gated({"ann": 10, "cyd": 30}, "cyd")
    assert few.result.outcome is Outcome.NO_QUORUM
    (same,) = redecide([few])
    assert same.outcome is Outcome.NO_QUORUM
    (other,) = redecide([few], WhatIf(rule="median"))
    assert (other.outcome, other.contributors) == (Outcome.PARTIAL, ("ann", "cyd"))
    (soft,) = recording(settled(1, "soft", {"ann": 10, "cyd": 30}))
    assert other.decision is not None
    assert outputs_of(other.decision) == soft.result.outputs, "by soft, until it is judged"


def test_what_another_rule_learns_follows_the_rosters_that_were_asked() -> None:
    few = [settled(n, "soft", {"ann": 1, "bob": 1}) for n in range(2)]
    small = frozenset({"ann", "bob"})
    few = [replace(one, asked=replace(one.asked, participants=small), missing={}) for one in few]
    all_of_them = [settled(n, "soft", dict.fromkeys(MEMBERS, 1)) for n in range(2, 80)]
    # one that was asked before the last roster came, and settled after
    kept = recording(*few, *all_of_them[:40], few[0], *all_of_them[40:])
    settled_so = settled_again(kept, WhatIf(rule="spectral"))
    assert set(settled_so[0].standing.values()) == {1.0}
    assert sorted(settled_so[-1].standing) == list(MEMBERS)
    # shares of one, so that all three are known
    assert sum(settled_so[-1].standing.values()) == pytest.approx(1.0)


def test_only_those_participants_are_asked_that_are_named() -> None:
    kept = recording(settled(1, "soft", {"ann": 10, "bob": 20}))
    (both,) = redecide(kept, WhatIf(participants=frozenset({"ann", "bob"})))
    assert both.outcome is Outcome.COMPLETE
    (alone,) = redecide(kept, WhatIf(participants=frozenset({"ann", "cyd"})))
    assert alone.outcome is Outcome.NO_QUORUM


def test_another_rule_decides_otherwise_and_an_unknown_one_is_refused() -> None:
    kept = recording(*(settled(n, "soft", dict.fromkeys(MEMBERS, 1)) for n in range(40)))
    found = compare(kept, redecide(kept, WhatIf(rule="hard")))
    assert found.identical == 0
    assert 0 < found.relabelled < found.rows
    assert found.outcomes == {"complete": 40}
    with pytest.raises(ConfigError, match="did you mean 'hard'"):
        redecide(kept, WhatIf(rule="harde"))


def test_sizes_are_recorded_for_the_rules_that_weigh_by_them() -> None:
    one = settled(4, "competence_entropy", dict.fromkeys(MEMBERS, 1))
    sizes = {"ann": 500.0, "bob": 1.0, "cyd": 1.0}
    (kept,) = recording(replace(one, asked=replace(one.asked, sizes=sizes)))
    assert [answer.size for answer in kept.answers] == [500.0, 1.0, 1.0]
    (again,) = redecide([kept])
    assert again.decision is not None
    assert compare([kept], [again]).identical == 1
    alone = one.answers["ann"].prediction
    assert alone is not None
    assert again.decision.labels.tolist() == alone.argmax(axis=1).tolist()


def test_right_labels_are_counted_where_they_are_known() -> None:
    queries = [settled(n, "soft", dict.fromkeys(MEMBERS, 1)) for n in range(30)]
    kept = recording(*queries, truth=2)
    again = redecide(kept)
    found = compare(kept, again)
    labels = np.concatenate([one.decision.labels for one in again if one.decision is not None])
    assert found.known == 60
    assert found.right == (labels == 2).sum()
    assert found.accuracy == found.right / 60
    assert compare(recording(*queries), again).accuracy is None


def test_a_query_that_was_not_ours_to_open_is_not_recorded() -> None:
    one = settled(1, "soft", dict.fromkeys(MEMBERS, 1))
    sealed = replace(one.answers["ann"], prediction=None)
    (payload,) = result_payloads([one])
    assert recorded(replace(one, answers={**one.answers, "ann": sealed}), payload, QUORUM) is None


def test_a_rejected_query_stays_so_whatever_else_changes() -> None:
    one = settled(1, "soft", {})
    (kept,) = recording(replace(one, outcome=Outcome.REJECTED, reason=Reason.TOO_LARGE))
    (again,) = redecide([kept], WhatIf(deadline_ms=1, participants=frozenset({"ann"})))
    assert again.outcome is Outcome.REJECTED
    assert redecide([kept], AS_IT_WAS)[0].decision is None


class TestFile:
    def test_a_frame_that_is_cut_off_ends_it(self) -> None:
        (one,) = recording(settled(1, "soft", dict.fromkeys(MEMBERS, 1)))
        whole = framed(one)
        for cut in (1, 3, 4, 5, len(whole) - 1):
            assert list(read_queries(BytesIO(whole + whole[:cut]))) == [one]

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        assert isinstance(read_head(BytesIO(data)), Head | Refusal)
        for one in read_queries(BytesIO(data)):
            assert isinstance(one, Recorded | Refusal)

    def test_a_frame_that_claims_too_much_is_refused_before_it_is_read(self) -> None:
        (found,) = read_queries(BytesIO(b"\xff\xff\xff\xff" + bytes(100)))
        assert isinstance(found, Refusal)
        assert "4294967295 bytes" in found.detail

    def test_a_later_version_is_refused(self) -> None:
        head = read_head(BytesIO(framed(Head(v=2, classes=("a", "b")))))
        assert isinstance(head, Refusal)
        assert head.reason is Reason.UNSUPPORTED_VERSION
