"""The comparison of the levels: how many are asked under each, and what they take on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desk import SURE, Desk

from fi_stream.demo.levels import COMPARED, OFFERED, shares
from fi_stream.demo.wire import mean_bytes

if TYPE_CHECKING:
    from fi_stream.federation.policy import Protection


@pytest.mark.parametrize("first", OFFERED)
def test_the_level_that_was_asked_for_comes_first_and_has_all_queries(first: Protection) -> None:
    counts = shares(first, 300)
    assert next(iter(counts)) is first
    assert counts == {each: 300 if each is first else COMPARED for each in OFFERED}
    assert set(shares(first, 7).values()) == {7}


def test_the_bytes_of_a_query_are_those_of_all_its_events_and_of_no_other_task() -> None:
    desk = Desk(protections=OFFERED, early_exit=False)
    records, expected = [], {}
    for protection in OFFERED:
        size = 0
        for _ in range(3):
            query = desk.query(protection=protection)
            events = [query.record, *(query.says(member, SURE) for member in ("p1", "p2", "p3"))]
            (settled,) = desk.take(*events)
            events.append(query.result(settled))
            size += sum(len(event.value) for event in events)
            records += events
        expected[protection] = size / 3
    task = desk.members.federation.task.hash
    assert mean_bytes(records, task) == expected
    assert mean_bytes(records, b"another task".ljust(32)) == {}
