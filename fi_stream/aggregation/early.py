"""Early exit: which open queries no missing answer can change any more (DESIGN 8.2).

A rule adds up what the participants say. Where each of them adds at most a known cap to a class,
and takes nothing from another, a lead that is larger than the caps of all missing ones stays one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.aggregation.evaluate import Gathered, scored
from fi_stream.aggregation.evidence import EQUAL
from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Candidate
    from fi_stream.aggregation.rules import Scores

CAPS: Final = MappingProxyType(
    {
        # one vote, however it is split and whatever noise is in it
        "hard": 1.0,
        # a row of probabilities, which may add up to a little more than 1
        "soft": 1.0 + SIMPLEX_TOLERANCE,
        # the same, with a weight of at most 1
        "entropy": 1.0 + SIMPLEX_TOLERANCE,
    }
)
"""The most that one participant adds to a class, if its answer is a label or probabilities."""

_VOTES: Final = "hard"
_MARGIN: Final = 2.0**-18
"""More than all rounding: `hard` rounds four scores by 2^-21 each, sums of 4096 are off by 1e-8."""


def certain(
    candidates: Sequence[Candidate], *, noised: bool, share: float | None = None
) -> list[bool]:
    """Whether each query's labels stand, whatever the missing participants say, without a tie.

    Args:
        candidates: with at least one answer each.
        noised: whether answers may be noised integers: nothing bounds those, so that only votes
            have a cap.
        share: the policy's bound on one participant's part of all weight; where weights differ, a
            missing participant then moves those of the others, and nothing is certain.
    """
    rules = frozenset(CAPS) if share is None else frozenset(CAPS) & EQUAL
    rules = rules & {_VOTES} if noised else rules
    found = [False] * len(candidates)
    capped = [index for index, one in enumerate(candidates) if one.asked.ask.rule in rules]
    gathered = [Gathered.of(candidates[i].asked, candidates[i].answers) for i in capped]
    for group in scored(gathered):
        starts = np.cumsum([0, *group.rows[:-1]])
        smallest = np.minimum.reduceat(_leads(group.scores), starts)
        for place, lead in zip(group.queries, smallest.tolist(), strict=True):
            one = candidates[capped[place]]
            found[capped[place]] = lead > one.missing * CAPS[one.asked.ask.rule] + _MARGIN
    return found


def _leads(scores: Scores) -> NDArray[np.float64]:
    """By how much the best class of each row is ahead of the next: [rows]."""
    ordered = np.partition(scores, -2, axis=-1)
    leads: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return leads
