"""What protects a federation from one participant: a cap on its size, a share, and the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.aggregation.caps import TIMES_MEDIAN
from fi_stream.aggregation.evidence import Evidence, scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.aggregation.stacks import Scores


@dataclass(frozen=True, slots=True)
class Guard:
    """How far participants are believed; as it stands, in everything.

    `times_median` bounds sizes (`caps.capped_sizes`), `share` what one participant may have of all
    weight, and `gate` leaves out who is independent of its peers (`dependence.gate`). A gate needs
    200 queries. Until it has judged, every rule but votes is `soft` (`until_judged`).
    """

    times_median: float | None = None
    share: float = 1.0
    gate: bool = False


UNGUARDED = Guard()
GUARDED = Guard(times_median=TIMES_MEDIAN, gate=True)


def until_judged(rule: str) -> str:
    """The rule that decides in place of another while somebody is not judged yet.

    Under `soft` whoever answers at random, however sure, has one part of the sum, and under `hard`
    one vote. Other rules give it more: a veto, the middle value, or the weight that it claims.
    """
    return rule if rule == "hard" else "soft"


def guarded(
    rule: str, evidence: Evidence, guard: Guard, counting: NDArray[np.bool_] | None
) -> Scores:
    """What a rule makes of the answers under a guard: [rows, classes], not normalised.

    Args:
        rule: one of `evidence.NAMES`.
        evidence: the answers, with sizes that are capped.
        guard: how far they are believed.
        counting: [participants] whom the gate lets count; None where it has not judged.
    """
    if guard.gate and counting is None:
        return scores(until_judged(rule), evidence, guard.share)
    if guard.gate and counting is not None:
        evidence = evidence.of(counting)
    return scores(rule, evidence, guard.share)
