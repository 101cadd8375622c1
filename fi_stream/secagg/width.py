"""Whether a secure sum fits into 64 bits, and which opened sums are none of honest answers.

Bounds are on a grid of integer steps, for K answers whose weights are at most the cap, each with
Gaussian noise of standard deviation `sigma` steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAIL: Final = 14.0
"""Standard deviations: noise is further out with a chance below 1e-43 a number."""

_MOST: Final = 2**63 - 1


def noise_tail(answers: int, sigma: float) -> int:
    """The most that the noise of so many answers adds to or takes from a number, in steps."""
    return math.ceil(TAIL * sigma * math.sqrt(answers))


def refuse_width(answers: int, cap: int, sigma: float) -> str | None:
    """Why sums of so many answers may overflow; None when they cannot.

    Args:
        answers: participants at most.
        cap: the largest number of one answer before its noise, in steps.
        sigma: of one answer's noise, in steps.
    """
    most = answers * cap + noise_tail(answers, sigma)
    if most <= _MOST:
        return None
    return (
        f"{answers} answers of up to {cap} steps and their noise add up to {most}, and a signed "
        f"number of 64 bits ends at {_MOST}"
    )


def refuse_sum(total: NDArray[np.int64], answers: int, cap: int, sigma: float) -> Refusal | None:
    """Why an opened sum cannot be one of so many answers: somebody's shares do not fit together.

    Args:
        total: [rows, columns].
        answers: how many it is of.
        cap: the largest number of one answer before its noise, in steps.
        sigma: of one answer's noise, in steps.
    """
    tail = noise_tail(answers, sigma)
    least, most = int(total.min()), int(total.max())
    if least >= -tail and most <= answers * cap + tail:
        return None
    what = f"a sum of {answers} answers holds {least if least < -tail else most}"
    return Refusal(Reason.SUM_OUT_OF_RANGE, f"{what}, outside {-tail} .. {answers * cap + tail}")
