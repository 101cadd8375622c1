"""What every mechanism keeps to, as a check that anybody's own can be put through.

def test_my_mechanism_keeps_the_laws():
    assert broken_laws(my_mechanism(epsilon=2.0, delta=0.0, classes=4, form="label"), 4) == []
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.events.payloads import Noise
from fi_stream.federation.policy import Form
from fi_stream.privacy.accountant import Charge, Unit
from fi_stream.privacy.calibration import epsilon_of
from fi_stream.privacy.claims import claim_of
from fi_stream.privacy.distinguishing import judge
from fi_stream.privacy.guesses import Played, neighbours
from fi_stream.privacy.mechanisms import Released

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fi_stream.privacy.mechanisms import NoiseMechanism

ANSWERS = 4_000
"""Rows of the game in its short form: they find labels with half of the noise due at epsilon 2."""

ALPHA = 1e-7
"""The chance that the game blames a mechanism that gives all that it promises."""

_SEED = 17
_ROWS = (1, 3, 8)
_CALLS = 40
_BUDGET = 100.0
_FEWEST, _VALUES = 400, 100_000
_LITTLE = 1e-9
_LARGEST_SCALE = 2**32


def broken_laws(
    mechanism: NoiseMechanism, classes: int, answers: int = ANSWERS, alpha: float = ALPHA
) -> list[str]:
    """Which laws a mechanism breaks, as sentences; none when it may be used.

    It is called with small predictions, [rows, classes] of float64 on the simplex, and then some
    thousand rows of two that lie as far apart as any, by a coin: whoever guesses the coins better
    than its epsilon allows refutes it. What is found is a lower bound, no proof that it is right.
    An exception of its own goes through.

    Args:
        mechanism: as built for one policy.
        classes: of its task.
        answers: rows of the game; the more, the smaller a fault it finds.
        alpha: the chance that the game blames a good one.
    """
    cost = mechanism.cost
    if not isinstance(mechanism.form, Form):
        return [f"its form is {mechanism.form!r}, and one of fi_stream's Form is wanted"]
    if not isinstance(cost, Charge) or cost.amount <= 0:
        return [f"its cost is {cost!r}, and a Charge above 0 is wanted: nothing would be rationed"]
    found = [*_of_charges(mechanism, cost), *_of_answers(mechanism, classes)]
    if not found:
        if same_noise(mechanism, mechanism, classes):
            found.append("two calls have the same noise: it must be fresh for each answer")
        found += _of_game(mechanism, classes, answers, alpha)
    return list(dict.fromkeys(found))


def answers_at_start(form: Form, classes: int) -> int:
    """How many answers a role asks when it starts: fewer of many classes, each of them noised."""
    if form is Form.LABEL:
        return ANSWERS
    return min(ANSWERS, max(_FEWEST, _VALUES // classes))


def same_noise(one: NoiseMechanism, other: NoiseMechanism, classes: int) -> bool:
    """Whether the same rows come out the same of both, though they come out unlike each other.

    Where so many rows came out unlike the most frequent, fresh noise gives the same twice in less
    than one of 10^8 cases, whatever the chances are. A constant is left to the game.
    """
    rows, unlike = (1_000, 4) if one.form is Form.LABEL else (40, 20)
    given = np.repeat(neighbours(classes)[1:], rows, axis=0)
    first, second = (each.release(given.copy()).values for each in (one, other))
    _, counts = np.unique(first, axis=0, return_counts=True)
    return rows - int(counts.max()) >= unlike and np.array_equal(first, second)


def why_not_an_answer(
    released: Released, form: Form, rows: int, classes: int, scale: int | None
) -> str | None:
    """Why what was released cannot be an answer of this mechanism; None when it can.

    Args:
        released: by somebody's own code.
        form: of the mechanism.
        rows: of the query.
        classes: of the task.
        scale: of all its answers.
    """
    if not isinstance(released, Released) or released.form is not form:
        return f"it releases {type(released).__name__}, and Released of form {form} is wanted"
    values, shape = released.values, (rows,) if form is Form.LABEL else (rows, classes)
    if not isinstance(values, np.ndarray) or values.dtype != np.int64:
        got = getattr(values, "dtype", type(values).__name__)
        return f"it releases {got}, and int64 is wanted: a float's last digits give it away"
    if values.shape != shape:
        return f"it releases {values.shape} for {(rows, classes)}, and {shape} is wanted"
    if released.scale != scale:
        return f"its scale is {released.scale} here and {scale} there, and tells of the prediction"
    if form is Form.PROBABILITIES and scale is None:
        return "its integers have no scale: say how many steps make 1.0"
    if scale is not None and not (type(scale) is int and 1 <= scale <= _LARGEST_SCALE):
        return f"its scale is {scale!r}, and a whole number from 1 to 2^32 is wanted"
    highest = classes * (scale or 1) - 1
    if form is Form.LABEL and (values.min() < 0 or values.max() > highest):
        return f"it releases a label outside 0 .. {highest}"
    return None


def _of_charges(mechanism: NoiseMechanism, cost: Charge) -> Iterator[str]:
    limit = mechanism.limit(_BUDGET)
    if not isinstance(limit, Charge) or limit.unit is not cost.unit or limit.amount <= 0:
        yield f"its limit({_BUDGET:g}) is {limit!r}, and a Charge in {cost.unit} is wanted"
        return
    delta = 0.0
    for rows, before in ((1, 0), (3, 0), (3, 7)):
        total = cost.times(rows + before)
        noise = mechanism.declare(rows, total)
        if not isinstance(noise, Noise):
            yield f"it declares {type(noise).__name__}, and Noise is wanted"
            return
        if cost.unit is Unit.NANO_RHO and noise.delta <= 0:
            yield "it charges rho and declares delta 0: rho is an epsilon only at a delta above 0"
            return
        delta = noise.delta
        for name, said, charged in (
            ("epsilon", noise.epsilon, cost.times(rows)),
            ("total", noise.total, total),
        ):
            least = epsilon_of(charged, delta)
            if said < least * (1 - _LITTLE):
                yield f"it declares {name} {said:g} where it charges {least:g}"
    if epsilon_of(limit, delta) > _BUDGET * (1 + _LITTLE):
        yield f"its limit({_BUDGET:g}) allows epsilon {epsilon_of(limit, delta):g}"


def _of_answers(mechanism: NoiseMechanism, classes: int) -> Iterator[str]:
    scale = None
    for number, given in enumerate(_predictions(classes)):
        kept = given.copy()
        released = mechanism.release(given)
        if not np.array_equal(given, kept):
            yield "it changes the prediction that it is given"
        if number == 0:
            scale = getattr(released, "scale", None)
        why = why_not_an_answer(released, mechanism.form, len(kept), classes, scale)
        if why is not None:
            yield why


def _of_game(mechanism: NoiseMechanism, classes: int, answers: int, alpha: float) -> Iterator[str]:
    cost = mechanism.cost
    assert cost is not None  # noqa: S101 - it was looked at
    declared = mechanism.declare(1, cost)
    assert declared is not None  # noqa: S101
    predictions = neighbours(classes)
    worlds = np.random.default_rng().integers(0, 2, answers).astype(np.bool_)
    parts = np.array_split(worlds.astype(np.int64), min(_CALLS, answers))
    released = [mechanism.release(predictions[part]) for part in parts]
    values = np.concatenate([one.values for one in released])
    claim = claim_of(cost, declared.epsilon, declared.delta)
    verdict = judge(Played(worlds, predictions, values, released[0].scale), claim, alpha)
    if not verdict.holds:
        given = "all" if math.isinf(verdict.epsilon) else f"epsilon {verdict.epsilon:.3g} or more"
        yield (
            f"it gives away {given} a row where it declares {declared.epsilon:g}: whoever looks "
            f"at {verdict.tried.looks_at} tells two predictions apart"
        )


def _predictions(classes: int) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(_SEED)
    for rows in _ROWS:
        for concentration in (0.05, 1.0, 20.0):
            yield rng.dirichlet(np.full(classes, concentration), rows)
        yield np.eye(classes)[rng.integers(0, classes, rows)]
        yield np.full((rows, classes), 1.0 / classes)
