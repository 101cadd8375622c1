"""What is learnt from past queries: by whoever decides, of each member, and of a bounded past."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.aggregation.competence import DENSITY_CAP
from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.past import Kind, Past
from fi_stream.aggregation.results import result_payloads
from fi_stream.aggregation.spectral import confidences, spectral_weights
from fi_stream.aggregation.window import EachClient, Window
from fi_stream.aggregation.windows import Windows
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason
from fi_stream.federation.policy import Policy
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEMBERS = ("ann", "bob", "cyd", "dan")
CLASSES = 3
GATED = Policy(rules=("spectral", "competence_density", "soft", "hard"), gate=True, quorum=2)
UNGATED = GATED.model_copy(update={"gate": False})


def asked(
    number: int, rows: int, rule: str = "spectral", participants: Sequence[str] = MEMBERS
) -> Asked:
    digest = number.to_bytes(32, "big")
    ask = Ask(
        query=digest[16:],
        partition=0,
        rule=rule,
        rows=rows,
        protection="trusted",
        created=1000,
        deadline=1500,
    )
    return Asked("client", digest, ask, 1, frozenset(participants))


def settled(what: Asked, said: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> Settled:
    """A query that these predictions were given to."""
    answers = {
        member: Given(
            Answered(member, what.digest, BrokerMillis(1020)),
            "model",
            said[member],
            own=(own or {}).get(member),
        )
        for member in sorted(said)
    }
    missing = dict.fromkeys(sorted(what.participants - said.keys()))
    return Settled(what, Outcome.PARTIAL if missing else Outcome.COMPLETE, answers, missing)


def drawn(
    number: int, rows: int, rule: str = "spectral", liar: str | None = None, seed: int = 1
) -> Settled:
    """A query whose answers go by what is right, but for those of a liar, who is sure."""
    rng = np.random.default_rng([seed, number])
    truth = rng.integers(0, CLASSES, rows)
    said = {}
    for at, member in enumerate(MEMBERS):
        raw = rng.random((rows, CLASSES)) + (at + 1) * np.eye(CLASSES)[truth]
        said[member] = raw / raw.sum(axis=1, keepdims=True)
    if liar is not None:
        said[liar] = np.eye(CLASSES)[rng.integers(0, CLASSES, rows)]
    return settled(asked(number, rows, rule), said)


def renamed(one: Settled, names: Mapping[str, str]) -> Settled:
    answers = {
        names[m]: replace(g, answered=replace(g.answered, member=names[m]))
        for m, g in one.answers.items()
    }
    return replace(one, answers=answers)


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=8),
    order=st.permutations(MEMBERS),
    seed=st.integers(0, 99),
)
def test_it_does_not_matter_who_is_who_nor_in_what_order_they_are_named(
    sizes: list[int], order: list[str], seed: int
) -> None:
    names = dict(zip(MEMBERS, order, strict=True))
    one, other = Window(GATED), Window(GATED)
    for number, rows in enumerate([*sizes, 250, 1]):
        query = drawn(number, rows, liar="cyd", seed=seed)
        first, second = one.settle(query), other.settle(renamed(query, names))
        assert second.rule == first.rule
        assert second.standing == {names[m]: value for m, value in first.standing.items()}
        assert second.left_out.keys() == {names[m] for m in first.left_out}


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_the_same_queries_in_the_same_order_give_the_same_results_to_the_bit(
    sizes: list[int],
) -> None:
    queries = [drawn(number, rows, liar="bob") for number, rows in enumerate(sizes)]
    windows = Window(GATED), Window(GATED)
    alone = [result_payloads([windows[0].settle(one)])[0] for one in queries]
    together = result_payloads([windows[1].settle(one) for one in queries])
    assert alone == together


def test_nobody_stands_out_before_there_are_a_hundred_rows_and_then_every_fifty_rows() -> None:
    window = Window(UNGATED)
    standings = [dict(window.settle(drawn(number, 10)).standing) for number in range(21)]
    assert standings[:10] == [dict.fromkeys(MEMBERS, 1.0)] * 10
    changed = [at for at in range(1, 21) if standings[at] != standings[at - 1]]
    assert changed == [10, 15, 20]
    assert sum(standings[10].values()) == pytest.approx(1.0)


def test_what_is_learnt_is_spectral_of_the_last_thousand_rows_of_whole_blocks() -> None:
    window, seen = Window(UNGATED), []
    for number in range(60):
        query = drawn(number, 29)
        applied = window.settle(query)
        stack = np.stack([query.answers[m].prediction for m in MEMBERS])
        if number == 59:
            rows = 59 * 29
            end = rows - rows % 50
            past = np.concatenate(seen, axis=1)[:, end - 1000 : end]
            expected = dict(zip(MEMBERS, spectral_weights(past).tolist(), strict=True))
            assert applied.standing == expected
        seen.append(confidences(stack))


def test_no_query_is_judged_by_what_was_said_to_it() -> None:
    windows = Window(GATED), Window(GATED)
    for window in windows:
        window.settle(drawn(0, 240, liar="cyd"))
    honest = windows[0].settle(drawn(1, 10, seed=5))
    lied_to = windows[1].settle(drawn(1, 10, liar="ann", seed=5))
    assert honest.standing == lied_to.standing
    assert honest.left_out.keys() == lied_to.left_out.keys() == {"cyd"}


def test_until_the_gate_has_judged_every_rule_but_votes_is_soft() -> None:
    window = Window(GATED)
    for number in range(8):
        for rule in ("spectral", "competence_density"):
            applied = window.apply(drawn(number, 25, rule, liar="bob"))
            assert applied.rule == "soft"
            assert (applied.standing, applied.left_out) == ({}, {})
        assert window.apply(drawn(number, 25, "hard")).rule is None
        assert window.apply(drawn(number, 25, "soft")).rule is None
        (payload,) = result_payloads([window.settle(drawn(number, 25, liar="bob"))])
        assert payload.rule == "soft"
    (payload,) = result_payloads([window.settle(drawn(8, 25, liar="bob"))])
    assert payload.rule is None
    assert [one.member for one in payload.contributors] == ["ann", "cyd", "dan"]
    assert [(one.member, one.reason) for one in payload.missing] == [
        ("bob", Reason.INDEPENDENT.code)
    ]


def test_the_quorum_is_of_those_who_count() -> None:
    window = Window(GATED)
    window.settle(drawn(0, 400, liar="bob"))
    whole = drawn(1, 5)
    some = {m: g.prediction for m, g in whole.answers.items() if m in {"ann", "bob"}}
    applied = window.apply(settled(whole.asked, some))
    assert applied.outcome is Outcome.NO_QUORUM
    assert applied.missing == {"bob": Reason.INDEPENDENT, "cyd": None, "dan": None}
    (payload,) = result_payloads([applied])
    assert (payload.outputs, payload.contributors) == ((), ())


def test_who_has_answered_too_little_is_believed_nothing_and_is_nobodys_peer() -> None:
    window = Window(GATED)
    for number in range(8):
        query = drawn(number, 50, liar="bob")
        said = {m: g.prediction for m, g in query.answers.items() if m not in {"cyd", "dan"}}
        window.settle(settled(query.asked, said))
    # of two that are independent of each other nobody can say who lies: both count
    assert window.judgement.counts == {"ann": True, "bob": True}
    assert window.apply(drawn(9, 1)).rule == "soft"
    for number in range(10, 14):
        window.settle(drawn(number, 50, liar="bob"))
    assert window.judgement.counts == {"ann": True, "bob": False, "cyd": True, "dan": True}
    assert window.apply(drawn(19, 1)).rule is None


def test_who_always_claims_the_most_stands_at_as_much_less() -> None:
    window = Window(UNGATED)
    for number in range(4):
        query = drawn(number, 50, "competence_density")
        own = {"ann": np.full(50, DENSITY_CAP), "bob": np.full(50, 0.5), "cyd": np.ones(50)}
        said = {m: query.answers[m].prediction for m in own}
        window.settle(settled(query.asked, said, own))
        # weights that mean something else are not taken for r
        window.settle(settled(asked(100 + number, 50, "competence_energy"), said, own))
    applied = window.apply(drawn(9, 1, "competence_density"))
    expected = {"ann": 1 / DENSITY_CAP, "bob": 2.0, "cyd": 1.0, "dan": 1.0}
    assert applied.standing == pytest.approx(expected)
    assert np.isnan(window.past.of(window.past.last(50))[1][Kind.DENSITY]).all()


def test_members_that_left_are_forgotten_and_new_ones_stand_at_the_mean() -> None:
    window = Window(GATED)
    window.settle(drawn(0, 300))
    new = ("ann", "bob", "eve")
    later = replace(asked(1, 2, participants=new), roster=2)
    row = np.full((2, CLASSES), 1 / CLASSES)
    window.settle(settled(later, dict.fromkeys(new, row)))
    assert window.past.members == new
    applied = window.apply(settled(later, dict.fromkeys(new, row)))
    assert applied.rule == "soft", "eve is not judged yet"
    ungated = Window(UNGATED)
    ungated.settle(drawn(0, 300))
    standing = ungated.apply(settled(later, dict.fromkeys(new, row))).standing
    assert standing["eve"] == 1 / 4
    assert standing["ann"] + standing["bob"] < 1
    # what is still asked under the old roster brings nobody back
    window.settle(drawn(2, 5))
    assert window.past.members == new


def test_nothing_is_kept_that_nobody_needs() -> None:
    window = Window(Policy())
    query = drawn(0, 300, "soft")
    assert window.settle(query) is query
    assert window.past.rows == 0


def test_a_query_that_was_rejected_is_no_past() -> None:
    window = Window(GATED)
    rejected = replace(drawn(0, 300), outcome=Outcome.REJECTED, answers={})
    assert window.settle(rejected) is rejected
    assert window.past.rows == 0


@given(
    adds=st.lists(
        st.tuples(st.integers(1, 40), st.sets(st.sampled_from(MEMBERS))), min_size=1, max_size=30
    )
)
def test_the_past_is_the_tail_of_all_that_came_in_bounded_room(
    adds: list[tuple[int, set[str]]],
) -> None:
    past, whole = Past(Windows(length=60, block=20)), np.full((2, len(MEMBERS), 0), np.nan)
    for number, (rows, who) in enumerate(adds):
        said = np.random.default_rng(number).dirichlet(np.ones(CLASSES), (len(MEMBERS), rows))
        query = dict(zip(MEMBERS, said, strict=True))
        past.add(settled(asked(number, rows), {member: query[member] for member in who}))
        part = np.stack([said.argmax(axis=2), said.max(axis=2)])
        for at, member in enumerate(MEMBERS):
            if member not in who:
                part[:, at] = [[-1.0], [np.nan]]
        whole = np.concatenate([whole, part], axis=2)
        assert past._said.shape[2] <= 100
    for last in (1, 60, 80):
        members, found = past.of(past.last(last))
        assert members == MEMBERS
        np.testing.assert_array_equal(found[: Kind.SURE + 1], whole[:, :, -last:])
    assert (past.rows, past.blocks) == (whole.shape[2], whole.shape[2] // 20)


def test_who_was_not_waited_for_is_not_said_to_be_silent() -> None:
    whole = drawn(0, 7)
    given_by = {"ann": whole.answers["ann"], "bob": whole.answers["bob"]}
    missing = {"cyd": None, "dan": Reason.OVERLOADED}
    for outcome, expected in ((Outcome.PARTIAL, -1.0), (Outcome.DECIDED, np.nan)):
        past = Past()
        past.add(replace(whole, outcome=outcome, answers=given_by, missing=missing))
        labels = past.of(past.last(7))[1][Kind.LABEL]
        assert (labels[:2] >= 0).all()
        np.testing.assert_array_equal(labels[2], np.full(7, expected))
        assert (labels[3] == -1).all(), "it said that it would not answer"


def test_what_one_client_asks_never_changes_what_another_is_told() -> None:
    alone, both = EachClient(GATED), EachClient(GATED)
    for number in range(12):
        mine = drawn(number, 30, liar="cyd")
        other = replace(drawn(100 + number, 170, liar="ann"), asked=asked(100 + number, 170))
        both.settle(replace(other, asked=replace(other.asked, client="other")))
        first, second = alone.settle(mine), both.settle(mine)
        assert (first.standing, first.rule) == (second.standing, second.rule)
        assert first.left_out.keys() == second.left_out.keys()
    assert first.left_out.keys() == {"cyd"}


def test_of_many_clients_those_that_asked_last_are_remembered() -> None:
    each = EachClient(GATED, most=2)
    whole = drawn(0, 300)
    for client in ("one", "two", "one", "three", "one"):
        asked_by = replace(whole.asked, client=client)
        settled_now = each.settle(replace(whole, asked=asked_by))
    assert settled_now.rule is None, "one asked all along"
    assert each.settle(replace(whole, asked=replace(whole.asked, client="two"))).rule == "soft"
