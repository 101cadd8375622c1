"""What every attack keeps to, as a check that anybody's own can be put through.

def test_my_attack_keeps_the_laws():
assert broken_laws(my_attack) == []
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator

Attack: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Logits of the attacker [rows, classes], from its own and the honest ones [others, rows, classes].
"""

OwnAttack: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""What the attacker says, [rows, classes] on the simplex.

From its own prediction [rows, classes] and those of the honest [others, rows, classes].
"""

_SHAPES = ((1, 1, 2), (1, 3, 4), (3, 2, 3), (7, 5, 10))
_SEED = 17


def broken_laws(attack: OwnAttack) -> list[str]:
    """Which laws an attack breaks, as sentences; none when it may be used.

    It is called with some small predictions: sure, unsure, equal and contradicting ones, of one
    honest participant and of several. An exception of its own goes through.
    """
    found = dict.fromkeys(law for own, others in _cases() for law in _broken(attack, own, others))
    return list(found)


def why_not_an_answer(said: object, rows: int, classes: int) -> str | None:
    """Why what an attacker says would be refused as no prediction; None when it would not."""
    if not isinstance(said, np.ndarray) or said.shape != (rows, classes):
        got = getattr(said, "shape", type(said).__name__)
        return f"it says {got}, and {(rows, classes)} is wanted: [rows, classes]"
    if said.dtype != np.float64:
        return f"it says {said.dtype}, and float64 is wanted"
    within = np.isfinite(said).all() and said.min() >= 0
    if not within or np.abs(said.sum(axis=1) - 1).max() > SIMPLEX_TOLERANCE:
        return "what it says is not on the simplex: each row at least 0, adding up to 1"
    return None


def _broken(
    attack: OwnAttack, own: NDArray[np.float64], others: NDArray[np.float64]
) -> Iterator[str]:
    given = own.copy(), others.copy()
    said = attack(*given)
    if not np.array_equal(given[1], others):
        yield "it changes the answers of the honest"
    if not np.array_equal(given[0], own):
        yield "it changes its own prediction, which is that of an honest participant elsewhere"
    why = why_not_an_answer(said, *own.shape)
    if why is not None:
        yield why


def _cases() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    rng = np.random.default_rng(_SEED)
    for others, rows, classes in _SHAPES:
        shape = (others + 1, rows)
        for concentration in (0.05, 1.0, 20.0):
            drawn = rng.dirichlet(np.full(classes, concentration), shape)
            yield drawn[0], drawn[1:]
        sure = np.eye(classes)[rng.integers(0, classes, shape)]
        yield sure[0], sure[1:]
        equal = np.full((*shape, classes), 1.0 / classes)
        yield equal[0], equal[1:]
