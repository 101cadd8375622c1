"""Broker time, as a process learns it from acknowledgements (DESIGN 8.1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fi_stream.clock import BrokerClock, ManualClock
from fi_stream.values import BrokerMillis, Millis

AHEAD = 250
"""Milliseconds that the broker's clock is ahead of ours."""


def acknowledge(
    clock: BrokerClock, manual: ManualClock, there: int, back: int, ahead: int = AHEAD
) -> None:
    """One send that took `there` milliseconds to be appended, and `back` to be acknowledged."""
    sent = manual.monotonic()
    manual.advance(there)
    appended = BrokerMillis(manual.wall() + ahead)
    manual.advance(back)
    clock.acknowledged(sent, appended)


@given(slow=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)), max_size=5))
def test_an_acknowledgement_that_took_long_moves_no_deadline(slow: list[tuple[int, int]]) -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(5_000))
    acknowledge(clock, manual, 1, 1)
    for there, back in slow:
        acknowledge(clock, manual, there, back)
        assert abs(clock.now() - (manual.wall() + AHEAD)) <= 2


@given(trips=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=9))
def test_a_clock_that_is_right_is_believed_however_slow_the_first_answers_are(
    trips: list[tuple[int, int]],
) -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(5_000))
    for there, back in trips:
        acknowledge(clock, manual, there, back, ahead=0)
        assert clock.now() == manual.wall()


@given(trips=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=9))
def test_the_estimate_is_as_good_as_the_quickest_acknowledgement(
    trips: list[tuple[int, int]],
) -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(5_000))
    for there, back in trips:
        acknowledge(clock, manual, there, back)
    quickest = min(there + back for there, back in trips)
    assert abs(clock.now() - (manual.wall() + AHEAD)) <= quickest + 2


def test_a_broker_whose_clock_was_set_is_followed_at_once() -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(5_000))
    acknowledge(clock, manual, 1, 1)
    manual.step(-2_000)  # the broker's, too: ours was read once, at the start
    acknowledge(clock, manual, 1, 1)
    assert abs(clock.now() - (manual.wall() + AHEAD)) <= 2


@given(ahead=st.integers(-10_000_000, 10_000_000))
def test_an_offset_is_corrected_up_to_the_clamp_and_beyond_it_the_clock_is_wrong(
    ahead: int,
) -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(2_000))
    acknowledge(clock, manual, 0, 0, ahead)
    corrected = clock.now() - manual.wall()
    assert abs(corrected - max(-2_000, min(2_000, ahead))) <= 1  # of a millisecond that was cut
    assert clock.skewed == (abs(ahead) > 2_000) or abs(ahead) == 2_001


@given(step=st.integers(-10_000_000, 10_000_000), left=st.integers(0, 60_000))
def test_a_step_of_the_wall_clock_moves_neither_now_nor_a_deadline(step: int, left: int) -> None:
    manual = ManualClock()
    clock = BrokerClock(manual, Millis(2_000))
    deadline = BrokerMillis(clock.now() + left)
    due = clock.local_time_of(deadline)
    manual.step(step)
    manual.advance(left)
    assert clock.now() == deadline
    assert abs(due - clock.monotonic()) < 0.001
    assert abs(clock.local_time_of(deadline) - due) < 0.002
