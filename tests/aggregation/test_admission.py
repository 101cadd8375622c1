"""A query may be answered only within the policy; everybody says so for the same reason."""

from __future__ import annotations

import numpy as np
import pytest
from desk import UNSURE, Desk
from members import cast

from fi_stream.aggregation.admission import forgotten_at, refuse_query, result_bytes
from fi_stream.events.refusals import Reason
from fi_stream.federation.policy import Protection
from fi_stream.values import BrokerMillis

LIMITS = {"max_deadline_ms": 10_000, "max_skew_ms": 100, "max_rows": 50}


@pytest.mark.parametrize(
    ("changes", "at", "expected"),
    [
        ({}, 0, None),
        ({"protection": "blind"}, 0, Reason.PROTECTION_NOT_ALLOWED),
        ({"protection": ""}, 0, Reason.PROTECTION_NOT_ALLOWED),
        ({"rule": "mine"}, 0, Reason.RULE_NOT_ALLOWED),
        ({"rows": 50}, 0, None),
        ({"rows": 51}, 0, Reason.TOO_LARGE),
        ({"rows": 2**31 - 1}, 0, Reason.TOO_LARGE),
        ({"deadline": 500}, 500, None),
        ({"deadline": 500}, 501, Reason.LATE),
        ({"deadline": 0}, 1, Reason.LATE),
        ({"deadline": 10_100}, 0, None),
        ({"deadline": 10_101}, 0, Reason.DEADLINE_TOO_FAR),
        ({"deadline": 2**62}, 0, Reason.DEADLINE_TOO_FAR),
        ({"created": 10_100}, 0, None),
        ({"created": 10_101}, 0, Reason.CLOCK_SKEW),
        ({"created": -10_101}, 0, Reason.CLOCK_SKEW),
        ({"created": 2**62}, 0, Reason.CLOCK_SKEW),
        ({"created": -10_101, "deadline": 2**62}, 0, Reason.CLOCK_SKEW),
    ],
)
def test_a_query_is_refused_for_what_is_wrong_with_it(
    changes: dict[str, int], at: int, expected: Reason | None
) -> None:
    members = cast(**LIMITS)
    start = members.now
    moved = {
        k: start + v if k in {"created", "deadline"} and v < 2**61 else v
        for k, v in changes.items()
    }
    refusal = refuse_query(members.ask(**moved), members.federation, BrokerMillis(start + at))
    assert (refusal and refusal.reason) == expected


def test_a_query_whose_result_could_not_be_sent_is_too_large() -> None:
    members = cast(max_message_bytes=8192, max_rows=10_000)
    most = max(
        rows
        for rows in range(1, 500)
        if result_bytes(members.federation, members.ask(rows=rows)) <= 8192
    )
    assert refuse_query(members.ask(rows=most), members.federation, members.now) is None
    refusal = refuse_query(members.ask(rows=most + 1), members.federation, members.now)
    assert refusal is not None
    assert refusal.reason is Reason.TOO_LARGE


def test_under_blind_a_result_is_counted_with_every_response_in_it() -> None:
    both = (Protection.TRUSTED, Protection.BLIND)
    members = cast(protections=both, max_message_bytes=20_000, max_rows=10_000)
    most = {}
    for protection in both:
        asks = [members.ask(rows=rows, protection=protection) for rows in range(1, 1500)]
        reasons = [refuse_query(ask, members.federation, members.now) for ask in asks]
        most[protection] = sum(reason is None for reason in reasons)
        assert reasons[-1] is not None
        assert reasons[-1].reason is Reason.TOO_LARGE
    assert 0 < most[Protection.BLIND] < most[Protection.TRUSTED] / 2


def test_a_policy_under_which_no_blind_result_could_be_sent_is_refused() -> None:
    cast(max_message_bytes=4096)
    with pytest.raises(ValueError, match="max_message_bytes: the answers to one row"):
        cast(protections=(Protection.TRUSTED, Protection.BLIND), max_message_bytes=4096)


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_no_result_that_was_admitted_is_too_large_to_send(rows: int) -> None:
    desk = Desk(protections=(Protection.BLIND,))
    query = desk.query(protection="blind", rows=rows)
    said = [query.says(member, np.repeat(UNSURE, rows, axis=0)) for member in ("p1", "p2", "p3")]
    (settled,) = desk.take(query.record, *said)
    assert len(settled.relayed) == 3
    assert len(query.result(settled).value) <= result_bytes(desk.members.federation, query.ask)


@pytest.mark.parametrize("wrong", [{"rule": "mine"}, {"rows": 2**30}, {"protection": "mpc"}])
def test_staleness_comes_before_all_else_so_that_a_replay_gets_no_result(
    wrong: dict[str, object],
) -> None:
    members = cast(**LIMITS)
    ask = members.ask(**wrong)
    late = refuse_query(ask, members.federation, BrokerMillis(ask.deadline + 1))
    assert late is not None
    assert late.reason is Reason.LATE


@pytest.mark.parametrize("deadline", [10, 500, 10_000, 2**50])
@pytest.mark.parametrize("rule", ["soft", "mine"])
def test_a_query_that_is_forgotten_is_stale_whenever_it_is_replayed(
    deadline: int, rule: str
) -> None:
    """Even one with a deadline in a thousand years is not remembered longer than any other."""
    members = cast(**LIMITS)
    ask = members.ask(deadline=members.now + deadline, rule=rule)
    gone = forgotten_at(ask, members.federation)
    assert gone <= members.now + 10_000 + 2 * 100
    assert gone >= min(ask.deadline, members.now + 10_000)
    for later in (1, 1000, 10**9):
        refusal = refuse_query(ask, members.federation, BrokerMillis(gone + later))
        assert refusal is not None
        assert refusal.reason in {Reason.LATE, Reason.CLOCK_SKEW}
