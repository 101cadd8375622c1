"""How many queries a client keeps open: fewer when there is no room, more when there is again."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from fi_stream.roles.window import SMALLEST, Window


def test_a_client_that_is_answered_is_never_held_back() -> None:
    window = Window(1000)
    for number in range(5000):
        window.answered(window.asked(), number % 1000)
    assert window.size == 1000


def test_one_overload_makes_the_window_smaller_once() -> None:
    window = Window(1000)
    numbers = [window.asked() for _ in range(100)]
    window.overloaded(numbers[0], 100)
    assert window.size == 50  # of what was open, not of what might have been
    for number in numbers[1:]:
        window.overloaded(number, 99)
    assert window.size == 50
    window.overloaded(window.asked(), 50)
    assert window.size == 25


def test_answers_to_what_was_asked_before_do_not_widen_it() -> None:
    window = Window(1000)
    before, last = window.asked(), window.asked()
    window.overloaded(last, 100)
    for _ in range(1000):
        window.answered(before, 50)
    assert window.size == 50


def test_it_grows_by_a_fixed_number_for_each_round_of_answers_but_only_when_it_is_used() -> None:
    window = Window(1000)
    window.overloaded(window.asked(), 100)
    for _ in range(1000):
        window.answered(window.asked(), 10)
    assert window.size == 50
    for _ in range(50):
        window.answered(window.asked(), 49)
    assert 50 + SMALLEST - 1 <= window.size <= 50 + SMALLEST


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=200))
def test_it_stays_within_its_bounds(events: list[tuple[bool, int]]) -> None:
    window = Window(100)
    for room, still_open in events:
        tell = window.answered if room else window.overloaded
        tell(window.asked(), still_open)
        assert SMALLEST <= window.size <= 100


def test_a_client_that_asks_too_much_settles_near_what_is_served() -> None:
    """A server answers 40 queries a round and has room for 100; the client would ask 200."""
    window, waiting = Window(100_000), deque[int]()
    served = rejected = 0
    for each in range(500):
        for _ in range(max(0, min(200, window.size - len(waiting)))):
            number = window.asked()
            if len(waiting) < 100:
                waiting.append(number)
            else:
                window.overloaded(number, len(waiting))
                rejected += each > 100
        for _ in range(min(40, len(waiting))):
            window.answered(waiting.popleft(), len(waiting))
            served += each > 100
    assert served >= 0.85 * 40 * 399  # it seldom runs dry
    assert rejected < served / 50
