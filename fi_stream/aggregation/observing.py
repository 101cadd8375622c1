"""A recording as a window on its participants: what each said of every row, how sure, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.dependence import gate
from fi_stream.aggregation.drift import alarm
from fi_stream.aggregation.health import Health, Observed, agreement, health
from fi_stream.events.payloads import Outcome
from fi_stream.events.tensors import to_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.events.recording import Recorded
    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True)
class Seen:
    """What a recording shows of one participant.

    `health` is of the window. `drifted` is the number of its answers until agreement with the
    others fell, over all that was recorded; None if it did not. `counts` is what the gate says of
    the window. `right` is its true accuracy in the window, where the right labels are known.
    """

    member: MemberId
    health: Health
    drifted: int | None
    counts: bool
    right: float | None


def watch(queries: Sequence[Recorded], classes: int, rows: int) -> list[Seen]:
    """Each participant that was ever asked, in order of member id.

    Args:
        queries: recorded queries, in the order in which they settled.
        classes: how many there are.
        rows: the window: how many of the last rows health and gate look at.
    """
    members = sorted({member for one in queries for member in one.participants})
    if not members:
        return []
    whole, truth = observed(queries, members)
    window = Observed(
        whole.labels[:, -rows:],
        whole.confidence[:, -rows:],
        whole.latency_ms[:, -rows:],
        whole.waited[:, -rows:],
    )
    agreed = agreement(whole.labels, classes)
    counts = gate(window.labels)
    return [
        Seen(
            member,
            found,
            alarm((agreed[at][np.isfinite(agreed[at])] > 0).tolist()),
            bool(counts[at]),
            _right(window.labels[at], truth[-rows:]),
        )
        for at, (member, found) in enumerate(zip(members, health(window, classes), strict=True))
    ]


def observed(
    queries: Sequence[Recorded], members: Sequence[MemberId]
) -> tuple[Observed, NDArray[np.int64]]:
    """All rows of all queries that were not rejected side by side.

    Returns:
        What was said of them, and their right labels, -1 where nobody knows.
    """
    asked = [one for one in queries if one.result.outcome is not Outcome.REJECTED]
    total = sum(one.ask.rows for one in asked)
    labels = np.full((len(members), total), -1)
    confidence = np.full((len(members), total), np.nan)
    latency = np.full((len(members), total), np.nan)
    waited = np.zeros((len(members), total), dtype=np.bool_)
    truth = np.full(total, -1)
    place = {member: at for at, member in enumerate(members)}
    start = 0
    for one in asked:
        part = slice(start, start + one.ask.rows)
        start = part.stop
        if one.truth is not None:
            truth[part] = to_array(one.truth)
        waited[[place[member] for member in _waited(one)], part] = True
        for answer in one.answers:
            at = place[answer.member]
            said = np.asarray(to_array(answer.prediction), dtype=np.float64)
            labels[at, part] = said.argmax(axis=1)
            confidence[at, part] = said.max(axis=1)
            latency[at, part] = max(0, answer.at - one.ask.created)
    return Observed(labels, confidence, latency, waited), truth


def _waited(one: Recorded) -> list[MemberId]:
    """Who was waited for: all, but for those whose silence an early decision did not sit out."""
    if one.result.outcome is not Outcome.DECIDED:
        return list(one.participants)
    silent = {who.member for who in one.result.missing if who.reason is None}
    return [member for member in one.participants if member not in silent]


def _right(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float | None:
    known = (truth >= 0) & (labels >= 0)
    return float((labels[known] == truth[known]).mean()) if known.any() else None
