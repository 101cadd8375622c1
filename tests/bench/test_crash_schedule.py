from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.crash.schedule import (
    AGGREGATORS,
    BROKER,
    REPLICAS,
    SPARE_AGGREGATOR,
    Action,
    draw,
    role_of,
)

SPARES = (SPARE_AGGREGATOR, *REPLICAS)


@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000))
def test_a_schedule_is_a_function_of_seed_and_number(seed: int, number: int) -> None:
    assert draw(seed, number) == draw(seed, number)


@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000))
def test_strokes_fall_into_the_stream_and_hit_only_what_runs(seed: int, number: int) -> None:
    schedule = draw(seed, number)
    assert list(schedule.strokes) == sorted(schedule.strokes, key=lambda stroke: stroke.at)
    back: dict[str, float | None] = dict.fromkeys(SPARES)
    for stroke in schedule.strokes:
        assert 0 < stroke.at <= schedule.seconds
        since = back.get(stroke.victim, 0.0)
        if stroke.action is Action.START:
            assert since is None
            back[stroke.victim] = stroke.at
            continue
        assert since is not None
        assert since <= stroke.at
        back[stroke.victim] = stroke.back
        assert (stroke.back is None) is (stroke.victim in SPARES)
        assert stroke.back is None or stroke.at <= stroke.back


def test_two_hundred_schedules_hit_every_role_in_every_way() -> None:
    drawn = [draw(1, number) for number in range(200)]
    strokes = [stroke for schedule in drawn for stroke in schedule.strokes]
    killed = {stroke.victim for stroke in strokes if stroke.action is Action.KILL}
    assert {role_of(victim) for victim in killed} == {
        "aggregator",
        "participant",
        "client",
        "broker",
    }
    assert killed > {*AGGREGATORS, BROKER}
    assert {stroke.action for stroke in strokes} == set(Action)
    for spare in SPARES:
        met = {stroke.action for stroke in strokes if stroke.victim == spare}
        assert met == {Action.START, Action.STOP, Action.KILL}
    assert {schedule.noised for schedule in drawn} == {True, False}
    assert len(set(drawn)) == 200
