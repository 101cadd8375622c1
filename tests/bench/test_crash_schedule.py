from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.crash.schedule import AGGREGATORS, BROKER, Action, draw, role_of


@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000))
def test_a_schedule_is_a_function_of_seed_and_number(seed: int, number: int) -> None:
    assert draw(seed, number) == draw(seed, number)


@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000))
def test_strokes_fall_into_the_stream_and_hit_only_what_runs(seed: int, number: int) -> None:
    schedule = draw(seed, number)
    assert list(schedule.strokes) == sorted(schedule.strokes, key=lambda stroke: stroke.at)
    back: dict[str, float] = {}
    for stroke in schedule.strokes:
        assert 0 < stroke.at <= schedule.seconds
        assert back.get(stroke.victim, 0.0) <= stroke.at <= stroke.back
        back[stroke.victim] = stroke.back


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
    assert {schedule.noised for schedule in drawn} == {True, False}
    assert len(set(drawn)) == 200
