"""What noise can be drawn ahead of need, each kind a value, and OpenDP's draws of it in blocks.

A kind says all that its draws depend on, and nothing of the answer that they will be added to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from fi_stream.privacy.calibration import gaussian, noisy_max, opendp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.federation.policy import Selection

_AT_ONCE = 256
"""Draws in one call: 25 us each, where a call for one costs 65 us."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """What to add to a label: 0 with probability `keep`, else 1 .. classes - 1 alike.

    `keep` is at least 1 / classes.
    """

    classes: int
    keep: float


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Integers from the discrete Gaussian around 0; `scale` is its standard deviation."""

    scale: float


@dataclass(frozen=True, slots=True)
class Places:
    """The place in `votes` that noisy max picks; the most votes come first.

    Votes in another order are the same noise with the places renamed, because OpenDP treats all
    classes alike: so one kind serves every order of the classes.
    """

    selection: Selection
    scale: float
    votes: tuple[int, ...]


Kind: TypeAlias = Offsets | Gaussians | Places


class NoiseSource(Protocol):
    """Gives out noise, each number once, wherever and whenever it was drawn."""

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """That many independent draws of a kind, which nobody gets again: int64 [count].

        Asking for none says that some of this kind will be wanted.
        """


class Drawing:
    """Draws when it is asked, and nothing ahead: for whoever has the time."""

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """As `NoiseSource` has it."""
        return draw(kind, count) if count else np.empty(0, dtype=np.int64)


def draw(kind: Kind, count: int) -> NDArray[np.int64]:
    """Have OpenDP draw now.

    Args:
        kind: of which noise.
        count: how many.

    Returns:
        int64 [count], independent.
    """
    match kind:
        case Offsets(classes, keep):
            return _repeated(_randomised_response(classes, keep), 0, count)
        case Gaussians(scale):
            # OpenDP draws for every entry of a vector by itself.
            return np.array(_gaussian(scale)([0] * count), dtype=np.int64)
        case Places(selection, scale, votes):
            return _repeated(_noisy_max(selection, scale), list(votes), count)


class _Repeatable(NamedTuple):
    """One of OpenDP's measurements, and a whole block of it as one call."""

    one: Any
    block: Any

    @classmethod
    def of(cls, one: Any) -> _Repeatable:
        return cls(one, opendp().combinators.make_composition([one] * _AT_ONCE))


def _repeated(what: _Repeatable, value: object, count: int) -> NDArray[np.int64]:
    """What a measurement says of one value, `count` times."""
    blocks, rest = divmod(count, _AT_ONCE)
    if rest > _AT_ONCE // 4:  # a whole block is cheaper than so many calls
        blocks, rest = blocks + 1, 0
    said = [number for _ in range(blocks) for number in what.block(value)]
    said += [what.one(value) for _ in range(rest)]
    return np.array(said[:count], dtype=np.int64)


@lru_cache(maxsize=16)
def _randomised_response(classes: int, keep: float) -> _Repeatable:
    labels = list(range(classes))
    return _Repeatable.of(opendp().measurements.make_randomized_response(labels, keep))


@lru_cache(maxsize=16)
def _gaussian(scale: float) -> Any:
    return gaussian(scale)


@lru_cache(maxsize=16)
def _noisy_max(selection: Selection, scale: float) -> _Repeatable:
    return _Repeatable.of(noisy_max(selection, scale))
