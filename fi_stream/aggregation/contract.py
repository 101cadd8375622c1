"""What every rule keeps to, as a check that anybody's own rule can be put through.

def test_my_rule_keeps_the_laws():
assert broken_laws(my_rule) == []
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fi_stream.aggregation.stacks import Scores, Stack

    Rule = Callable[[Stack], Scores]

_SHAPES = ((1, 1, 2), (2, 3, 2), (3, 2, 4), (4, 5, 3), (7, 4, 10))
_SEED = 17
_CLOSE = 1e-9


def broken_laws(rule: Rule) -> list[str]:
    """Which laws a rule breaks, as sentences; none when it may be used.

    It is called with some dozens of small stacks, [participants, rows, classes] of float64 on the
    simplex: sure, unsure, equal and contradicting predictions, and labels. An exception of its own
    goes through.
    """
    found = dict.fromkeys(law for stack in _stacks() for law in _broken(rule, stack))
    return list(found)


def _broken(rule: Rule, stack: Stack) -> Iterator[str]:
    participants, rows, classes = stack.shape
    given = stack.copy()
    scores = rule(given)
    if not np.array_equal(given, stack):
        yield "it changes the predictions that it is given"
    if not isinstance(scores, np.ndarray) or scores.shape != (rows, classes):
        got = getattr(scores, "shape", type(scores).__name__)
        yield f"it returns {got} for {stack.shape}, and [rows, classes] is wanted"
        return
    if scores.dtype != np.float64:
        yield f"it returns {scores.dtype}, and float64 is wanted"
        return
    if not np.isfinite(scores).all():
        yield "its scores are not all finite"
        return
    if not np.array_equal(rule(stack.copy()), scores):
        yield "it does not say the same twice: a result could not be replayed"
    rng = np.random.default_rng(_SEED)
    order, names = rng.permutation(participants), rng.permutation(classes)
    if not _close(rule(stack[order]), scores):
        yield "it depends on the order of the participants"
    if not _close(rule(np.ascontiguousarray(stack[:, :, names])), scores[:, names]):
        yield "it depends on how the classes are numbered"
    others = rng.dirichlet(np.ones(classes), (participants, 5))
    beside = rule(np.concatenate([others, stack], axis=1))
    if beside.shape != (5 + rows, classes) or not np.array_equal(beside[5:], scores):
        yield (
            "a row's scores change, if only in the last bit, with the rows beside it: sum with "
            "fi_stream.aggregation.stacks, and use its portable logarithm and exponential"
        )


def _close(found: Scores, expected: Scores) -> bool:
    scale = max(1.0, float(np.abs(expected).max()))
    return found.shape == expected.shape and bool(
        (np.abs(found - expected) <= _CLOSE * scale).all()
    )


def _stacks() -> Iterator[Stack]:
    rng = np.random.default_rng(_SEED)
    for participants, rows, classes in _SHAPES:
        shape = (participants, rows)
        for concentration in (0.05, 1.0, 20.0):
            yield rng.dirichlet(np.full(classes, concentration), shape)
        yield np.eye(classes)[rng.integers(0, classes, shape)]
        yield np.full((*shape, classes), 1.0 / classes)
        yield np.broadcast_to(rng.dirichlet(np.ones(classes), rows), (*shape, classes)).copy()
