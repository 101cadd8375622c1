"""What a participant expects of its own passes, and which queries it takes on."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.roles.pace import Pace, Wanted, choose


def learned(*passes: tuple[int, float]) -> Pace:
    pace = Pace()
    for rows, seconds in passes:
        pace.took(rows, seconds)
    return pace


def steady(fixed: float, each: float) -> Pace:
    return learned(*((rows, fixed + each * rows) for rows in (1, 50, 7, 20, 100, 3)))


WANTED = st.lists(st.builds(Wanted, st.integers(0, 50), st.floats(-0.1, 0.5)), max_size=8)


def test_a_fixed_part_and_a_part_for_each_row_are_told_apart() -> None:
    pace = steady(0.010, 0.001)
    for rows in (1, 10, 1000):
        assert pace.seconds(rows) == pytest.approx(0.010 + 0.001 * rows, rel=0.01)


def test_before_its_first_pass_it_expects_nothing() -> None:
    assert Pace().seconds(10_000) == 0.0


def test_what_is_not_known_is_tried_in_a_pass_of_bounded_size() -> None:
    pace = learned(*[(1, 0.02)] * 5)
    assert pace.seconds(16) == pytest.approx(0.02)
    assert pace.most == 16
    pace.took(16, 0.32)
    assert pace.seconds(64) > 1.0
    pace.took(64, 1.28)
    assert 64 < pace.most < 256


def test_what_a_row_takes_is_remembered_while_all_passes_are_small() -> None:
    pace = learned((1, 0.02), (30, 0.6), *[(1, 0.02), (1, 0.021)] * 50)
    assert pace.seconds(16) == pytest.approx(0.32, rel=0.1)


def test_what_passes_scatter_is_allowed_for() -> None:
    pace = learned(*[(10, seconds) for seconds in (0.1, 0.12, 0.09, 0.14, 0.1, 0.11)])
    assert 0.12 < pace.seconds(10) < 0.16


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(1e-6, 60)), max_size=20))
def test_more_rows_never_take_less_and_nothing_takes_less_than_nothing(
    passes: list[tuple[int, float]],
) -> None:
    pace = learned(*passes)
    seconds = [pace.seconds(rows) for rows in (1, 2, 10, 500, 5000)]
    assert seconds == sorted(seconds)
    assert seconds[0] >= -1e-9


def test_one_slow_pass_changes_little() -> None:
    pace = learned(*[(4, 0.02)] * 5, (4, 30.0))
    assert pace.seconds(4) < 0.2


def test_after_a_cold_first_pass_a_quick_one_sets_it_right() -> None:
    assert learned((1, 10.0), (1, 0.005)).seconds(1) == pytest.approx(0.005)


def test_a_model_that_became_ten_times_slower_is_believed_after_a_few_passes() -> None:
    pace = learned(*[(4, 0.1)] * 5, *[(4, 1.0)] * 6)
    assert pace.seconds(4) > 0.7


@given(st.floats(0.001, 3600), st.floats(0.001, 1))
def test_whatever_a_pass_took_something_is_tried_again_soon(slow: float, left: float) -> None:
    pace = learned((1, slow))
    for _ in range(25):
        if choose([Wanted(1, left)], pace):
            return
        pace.gave_up()
    pytest.fail("it abstains for ever")


@given(WANTED, st.floats(0, 0.1), st.floats(0, 0.01))
def test_all_that_are_chosen_are_expected_in_time(
    wanted: list[Wanted], fixed: float, each: float
) -> None:
    pace = steady(fixed, each)
    chosen = choose(wanted, pace)
    took = pace.seconds(sum(wanted[place].rows for place in chosen))
    assert all(wanted[place].left > 0 and took <= wanted[place].left for place in chosen)


@given(st.lists(st.floats(-0.1, 0.5), max_size=8), st.floats(0, 0.1), st.floats(0.001, 0.05))
def test_of_queries_of_one_size_as_many_are_chosen_as_can_be(
    left: list[float], fixed: float, each: float
) -> None:
    pace = steady(fixed, each)
    best = max(
        count
        for count in range(len(left) + 1)
        for some in combinations(left, count)
        if all(one > 0 and pace.seconds(count) <= one * (0.75 if count > 1 else 1) for one in some)
    )
    assert len(choose([Wanted(1, one) for one in left], pace)) == best


def test_a_backlog_is_answered_from_its_end_in_one_large_pass() -> None:
    wanted = [Wanted(1, number / 1000) for number in range(1000)]
    chosen = choose(wanted, steady(0.005, 0.001))
    assert chosen == set(range(1000 - len(chosen), 1000))
    assert len(chosen) > 420


def test_one_query_of_many_rows_does_not_push_out_many_of_few() -> None:
    wanted = [Wanted(1000, 5.0), *[Wanted(1, 0.5)] * 100]
    assert choose(wanted, steady(0.005, 0.001)) == set(range(1, 101))
