"""How participants do, seen while the window fills: alarms that end, members that are forgotten."""

from __future__ import annotations

import numpy as np

from fi_stream.aggregation.drift import Tolerance
from fi_stream.aggregation.past import Kind
from fi_stream.aggregation.vitals import Vital, Vitals

MEMBERS = ("ann", "bob", "cyd", "dan")


def seen(rows: int, seed: int, drifting: bool = False) -> np.ndarray:
    """What four that are right say, the first of them nothing of the sort once it drifts."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, rows)
    said = np.full((len(Kind), len(MEMBERS), rows), np.nan)
    said[Kind.LABEL] = truth
    said[Kind.SURE] = 0.9
    said[Kind.LATENCY] = 5.0
    if drifting:
        said[Kind.LABEL, 0] = (truth + 1) % 4
    return said


def test_a_fall_of_agreement_is_an_alarm_that_ends_when_agreement_is_back() -> None:
    vitals, usual = Vitals(4), Tolerance().baseline
    looks = [False, False, True, True, True, False, False, False]
    alarms = [
        vitals.look(MEMBERS, seen(usual, seed, drifting=drifts), usual)["ann"].drifting
        for seed, drifts in enumerate(looks)
    ]
    assert alarms[:5] == looks[:5]
    assert alarms[-1] is False


def test_only_what_is_fresh_is_looked_at_for_drift() -> None:
    vitals, usual = Vitals(4), Tolerance().baseline
    vitals.look(MEMBERS, seen(usual, 0), usual)
    whole = np.concatenate([seen(usual, 1, drifting=True), seen(20, 2)], axis=2)
    assert not vitals.look(MEMBERS, whole, 20)["ann"].drifting
    assert vitals.look(MEMBERS, whole, 500)["ann"].drifting, "more than the window has is all of it"


def test_who_leaves_is_forgotten_and_comes_back_as_a_stranger() -> None:
    vitals, usual = Vitals(4), Tolerance().baseline
    vitals.look(MEMBERS, seen(usual, 0), usual)
    assert vitals.look(MEMBERS, seen(usual, 1, drifting=True), usual)["ann"].drifting
    rest = seen(10, 2)[:, 1:]
    assert vitals.look(MEMBERS[1:], rest, 10).keys() == set(MEMBERS[1:])
    assert not vitals.look(MEMBERS, seen(10, 3), 10)["ann"].drifting


def test_rows_that_a_member_was_not_asked_are_no_abstentions() -> None:
    said = seen(100, 0)
    said[:, 1, :60] = np.nan
    said[:, 1, 60:70] = np.nan
    said[Kind.LABEL, 1, 60:70] = -1
    said[:, 2] = np.nan
    found = Vitals(4).look(MEMBERS, said, 100)
    assert found["ann"].abstained == 0
    assert found["bob"].abstained == 0.25
    assert found["cyd"] == Vital(None, None, None, drifting=False)
    accuracy = found["ann"].accuracy
    assert accuracy is not None
    assert accuracy > 0.95
