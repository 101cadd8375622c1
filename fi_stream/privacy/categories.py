"""Many draws of randomised response's noise at once, each random bit being OpenDP's.

One call of OpenDP's randomised response costs 65 us for one label. Its randomised response on bit
vectors flips every bit on its own with an exact probability, and costs 0.5 to 0.8 us a bit: so the
same distribution is put together from its bits, step by step as OpenDP's own function does it: is
this answer honest, and if not, which of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.privacy.calibration import opendp

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Categories:
    """Offsets to add to a label: 0 with probability `keep`, else 1 .. classes - 1 alike.

    Args:
        classes: at least two.
        keep: a float in (0, 1); its complement, where it is the smaller, is exact as well.
    """

    def __init__(self, classes: int, keep: float) -> None:
        self._others = classes - 1
        self._honest_is_rare = keep < 0.5
        self._rare = _flips(keep if self._honest_is_rare else 1 - keep)
        self._even = _flips(0.5)

    def draw(self, count: int) -> NDArray[np.int64]:
        """That many independent offsets: int64 [count]."""
        rare = _bits(self._rare, count)
        lies = ~rare if self._honest_is_rare else rare
        offsets = np.zeros(count, dtype=np.int64)
        offsets[lies] = 1 + self._below(self._others, int(lies.sum()))
        return offsets

    def _below(self, bound: int, count: int) -> NDArray[np.int64]:
        """Integers in [0, bound), each as likely: too large ones are drawn again."""
        if bound == 1:
            return np.zeros(count, dtype=np.int64)
        width = (bound - 1).bit_length()
        weights = 1 << np.arange(width, dtype=np.int64)
        kept = np.empty(0, dtype=np.int64)
        while len(kept) < count:
            tries = 2 * (count - len(kept)) if bound < 2**width else count
            drawn = _bits(self._even, tries * width).reshape(tries, width) @ weights
            kept = np.concatenate([kept, drawn[drawn < bound]])
        return kept[:count]


def _flips(probability: float) -> Any:
    """OpenDP's measurement that flips each bit with that probability, at most one half."""
    dp = opendp()
    # Its parameter is twice the chance of a flip; doubling and halving a float are exact. The
    # declared weight bears on its privacy map only, which speaks of other data than ours.
    return dp.m.make_randomized_response_bitvec(
        dp.bitvector_domain(max_weight=1), dp.discrete_distance(), f=2 * probability
    )


def _bits(flips: Any, count: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(flips(bytes(-(-count // 8))), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(np.bool_)
