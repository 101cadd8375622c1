from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.crash.history import Span
from bench.crash.service import served


def spans(most: int = 30) -> st.SearchStrategy[list[Span]]:
    ends = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    return st.lists(ends.map(lambda pair: Span(*pair)), max_size=6)


def within(span: Span, moment: float) -> bool:
    return span.start < moment < span.end


@given(ready=spans(), outages=spans())
def test_served_is_when_one_is_ready_and_there_is_no_outage(
    ready: list[Span], outages: list[Span]
) -> None:
    found = served(ready, outages)
    for start in range(30):
        moment = start + 0.5
        wanted = any(within(span, moment) for span in ready) and not any(
            within(span, moment) for span in outages
        )
        assert any(within(span, moment) for span in found) is wanted


@given(ready=spans(), outages=spans())
def test_its_parts_are_in_order_and_apart(ready: list[Span], outages: list[Span]) -> None:
    found = served(ready, outages)
    assert all(span.start < span.end for span in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
