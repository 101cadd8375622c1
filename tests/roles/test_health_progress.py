"""What `/livez` and `/readyz` make of what a role's loop and its surroundings say."""

from __future__ import annotations

import pytest

from fi_stream.roles.progress import QUIET, SHOWN, STUCK, Progress, Surroundings
from fi_stream.transport.port import Partition
from fi_stream.values import Instant

WELL = Surroundings(reachable=True, skew=3.0, max_skew=2000)
HELD = frozenset({Partition("fi.queries", 0), Partition("fi.results", 0)})


def at(seconds: float) -> Instant:
    return Instant(1000.0 + seconds)


@pytest.fixture
def working() -> Progress:
    """A role at work, that polled at second 0."""
    progress = Progress(at(0))
    progress.doing(None)
    progress.assigned(HELD)
    progress.polled(at(0))
    progress.look(WELL, at(0))
    return progress


def test_a_role_that_holds_partitions_and_polls_is_ready(working: Progress) -> None:
    assert working.lacking(at(1)) == []
    assert working.degraded(at(1)) == []
    assert working.stuck(at(1)) == []
    assert working.partitions == 1


def test_a_role_is_not_ready_before_it_is_at_work_and_says_what_it_does() -> None:
    progress = Progress(at(0))
    assert progress.lacking(at(1)) == ["waiting for the broker"]
    progress.doing("reading grants")
    assert progress.lacking(at(1)) == ["reading grants"]
    assert progress.stuck(at(10_000)) == []


def test_a_role_without_partitions_is_not_ready_until_it_has_some_again(working: Progress) -> None:
    working.assigned(frozenset())
    assert working.lacking(at(1)) == ["no partition assigned"]
    working.assigned(HELD)
    assert working.lacking(at(1)) == []


def test_a_broker_that_is_away_is_told_with_the_time_since_it_was_seen(working: Progress) -> None:
    working.look(WELL, at(4))
    for second in range(5, 12):
        working.look(Surroundings(reachable=False, max_skew=2000), at(second))
        working.polled(at(second))
    assert working.lacking(at(11)) == ["broker unreachable for 7 s"]
    working.look(WELL, at(12))
    assert working.lacking(at(12)) == []


def test_a_loop_that_no_longer_goes_round_is_first_not_ready_then_not_alive(
    working: Progress,
) -> None:
    working.longest_deadline = 30.0
    assert working.lacking(at(QUIET)) == []
    assert working.lacking(at(QUIET + 1)) == ["no poll for 11 s"]
    assert working.stuck(at(STUCK + 30)) == []
    assert working.stuck(at(STUCK + 31)) == ["no poll for 91 s"]


def test_time_without_a_broker_makes_no_role_dead(working: Progress) -> None:
    """A loop may wait for an acknowledgement however long: a restart would not bring it."""
    gone = Surroundings(reachable=False, max_skew=2000)
    working.look(gone, at(5))
    assert working.stuck(at(10_000)) == []
    working.look(gone, at(10_000))
    working.look(WELL, at(10_001))
    assert working.stuck(at(10_001)) == []
    assert working.stuck(at(10_001 + STUCK)) == []
    assert working.stuck(at(10_002 + STUCK)) == ["no poll for 61 s"]


def test_a_topic_that_is_missing_makes_a_role_not_ready_while_it_is(working: Progress) -> None:
    missing = ("topic fi.queries is missing",)
    working.look(Surroundings(reachable=True, max_skew=2000, troubles=missing), at(1))
    assert working.lacking(at(1)) == ["topic fi.queries is missing"]
    working.look(WELL, at(2))
    assert working.lacking(at(2)) == []


@pytest.mark.parametrize("skew", [-2001.0, 2001.0])
def test_a_clock_beyond_the_clamp_is_named(working: Progress, skew: float) -> None:
    working.look(Surroundings(reachable=True, skew=skew, max_skew=2000), at(1))
    [why] = working.lacking(at(1))
    assert why == "this machine's clock is 2001 ms off the broker's, 2000 are allowed"
    working.look(Surroundings(reachable=True, skew=skew * 0.9, max_skew=2000), at(1))
    assert working.lacking(at(1)) == []


def test_a_leader_that_moved_degrades_a_ready_role_for_a_while(working: Progress) -> None:
    moved = Surroundings(reachable=True, max_skew=2000, moved=2)
    working.look(moved, at(1))
    working.look(moved, at(2))
    assert working.lacking(at(3)) == []
    assert working.degraded(at(3)) == ["partitions got another leader, last 2 s ago: see the log"]
    assert working.degraded(at(2 + SHOWN)) == []


def test_lost_records_degrade_a_ready_role_for_a_while(working: Progress) -> None:
    lost = Surroundings(reachable=True, max_skew=2000, lost=1)
    working.look(lost, at(1))
    working.look(lost, at(2))
    assert working.lacking(at(3)) == []
    assert working.degraded(at(3)) == [
        "records were lost or could not be read, last 2 s ago: see the log"
    ]
    assert working.degraded(at(2 + SHOWN)) == []
