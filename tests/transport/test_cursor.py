from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fi_stream.transport.cursor import Cursor
from fi_stream.transport.port import Partition

P = [Partition("topic", number) for number in range(4)]
sets = st.frozensets(st.sampled_from(P))


def standing(partitions: frozenset[Partition], *, start_paused: bool = False) -> Cursor:
    cursor = Cursor(start_paused=start_paused)
    cursor.assign(partitions)
    for partition in partitions:
        cursor.fix(partition, 0)
    return cursor


@given(before=sets, paused=sets, after=sets)
def test_a_pause_outlives_a_rebalance_only_where_the_partition_stays(
    before: frozenset[Partition], paused: frozenset[Partition], after: frozenset[Partition]
) -> None:
    cursor = standing(before)
    cursor.pause(paused)
    cursor.revoke()
    cursor.assign(after)
    assert cursor.paused == before & paused & after
    for partition in after:
        cursor.fix(partition, 0)
    assert cursor.active == after - cursor.paused


@given(first=sets, second=sets)
def test_with_start_paused_every_assignment_waits_to_be_resumed(
    first: frozenset[Partition], second: frozenset[Partition]
) -> None:
    cursor = standing(first, start_paused=True)
    cursor.resume(first)
    assert cursor.active == first
    cursor.assign(second)
    for partition in second:
        cursor.fix(partition, 0)
    assert cursor.active == frozenset()


@given(assigned=sets, fixed=sets)
def test_nothing_is_active_before_its_position_is_known(
    assigned: frozenset[Partition], fixed: frozenset[Partition]
) -> None:
    cursor = Cursor(start_paused=False)
    cursor.assign(assigned)
    for partition in fixed:
        cursor.fix(partition, 5)
    assert cursor.active == assigned & fixed
    assert cursor.unfixed == assigned - fixed
    assert cursor.positions() == dict.fromkeys(assigned & fixed, 5)


@given(sets, sets)
def test_a_change_is_told_once_and_the_last_one_counts(
    first: frozenset[Partition], second: frozenset[Partition]
) -> None:
    cursor = Cursor(start_paused=False)
    assert cursor.take_change() is None
    cursor.assign(first)
    cursor.revoke()
    cursor.assign(second)
    assert cursor.take_change() == second
    assert cursor.take_change() is None


def test_an_assignment_that_came_back_the_same_is_still_a_change() -> None:
    cursor = standing(frozenset(P))
    cursor.take_change()
    cursor.assign(P)
    assert cursor.take_change() == frozenset(P)


@given(assigned=sets, lost=sets, paused=sets)
def test_a_position_that_is_in_doubt_returns_nothing_until_it_is_fixed_and_is_remembered(
    assigned: frozenset[Partition], lost: frozenset[Partition], paused: frozenset[Partition]
) -> None:
    cursor = standing(assigned)
    cursor.pause(paused)
    before = cursor.generation
    cursor.unfix(lost)
    assert cursor.generation > before
    assert cursor.unfixed == assigned & lost
    assert cursor.active == assigned - lost - paused
    assert all(cursor.remembered(each) == 0 for each in assigned)
    for each in assigned & lost:
        cursor.fix(each, 3)
    assert cursor.active == assigned - paused


@given(assigned=sets, before=sets)
def test_where_it_stood_in_a_topic_is_remembered_whoever_has_it_now(
    assigned: frozenset[Partition], before: frozenset[Partition]
) -> None:
    cursor = standing(before)
    cursor.assign(assigned)
    assert cursor.remembered_of("topic") == before
    assert cursor.remembered_of("other") == frozenset()


def test_where_it_stood_is_remembered_for_a_group_that_has_no_commit() -> None:
    cursor = standing(frozenset(P))
    cursor.advance(P[2], 6)
    cursor.revoke()
    assert (cursor.remembered(P[2]), cursor.remembered(Partition("other", 0))) == (7, None)
