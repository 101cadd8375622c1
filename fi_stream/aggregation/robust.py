"""Rules that a few wrong participants move only so far: medians and a trimmed mean.

They look at all predictions at once, so they are for an aggregator that sees each (not `secagg`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.stacks import added

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.aggregation.stacks import Scores, Stack

TRIM = 1
"""How many of the largest and of the smallest values of a class `trimmed_mean` leaves out."""

_STEP = 1e-9
_ITERATIONS = 200
_TOUCHING = 1e-12
_LOOK = 4

# for second derivatives between a half and 1, where those of several participants mostly are
_LONGER = 1.37
_KEPT = 0.03

_AT_ONCE = 2**17
"""Numbers that are worked on together, so that many rows do not take all memory."""


def median(predictions: Stack) -> Scores:
    """The median of each class: half of the participants cannot move it past the others.

    Args:
        predictions: [participants, rows, classes], finite.

    Returns:
        [rows, classes]; the mean of the middle two when the participants are even. They need not
        add up to 1.

    Source: Yin et al., Byzantine-robust distributed learning (arXiv 1803.01498), coordinate-wise
    median.
    """
    ordered = np.sort(predictions, axis=0)
    participants = ordered.shape[0]
    return np.asarray((ordered[(participants - 1) // 2] + ordered[participants // 2]) / 2)


def trimmed_mean(predictions: Stack, trim: int = TRIM) -> Scores:
    """The mean of each class without its largest and smallest values.

    Args:
        predictions: [participants, rows, classes], finite.
        trim: how many to leave out on each side; fewer where that would leave nothing, because
            participants may be missing from any query. `refuse_trim` is for a whole federation.

    Returns:
        [rows, classes]. They need not add up to 1.

    Source: Yin et al. (arXiv 1803.01498), coordinate-wise trimmed mean.
    """
    participants = predictions.shape[0]
    left_out = min(trim, (participants - 1) // 2)
    kept = np.sort(predictions, axis=0)[left_out : participants - left_out]
    return np.asarray(added(kept) / kept.shape[0])


def refuse_trim(participants: int, trim: int = TRIM) -> str | None:
    """Why so many participants cannot be trimmed; None when something is left of them."""
    if participants > 2 * trim:
        return None
    return (
        f"rule 'trimmed_mean' leaves out {trim} of the largest and {trim} of the smallest values, "
        f"and there are {participants} participants: nothing would be left. Use rule 'median', or "
        f"{2 * trim + 1} participants or more."
    )


def geometric_median(predictions: Stack) -> Scores:
    """The point with the least sum of Euclidean distances to the predictions.

    Args:
        predictions: [participants, rows, classes], finite.

    Returns:
        [rows, classes]; within about 1e-6 of the point, but for the few rows that are not there yet
        after 200 steps (several predictions nearly on one line).

    Weiszfeld's iteration from the best prediction, or the mean of those that are as good: so two
    participants meet in the middle. That prediction is left, if it is not the point, by the step of
    Vardi and Zhang. Further steps are longer, and keep a part of the one before: that takes half as
    many. A row stops when it moves less than 1e-9, looked at every fourth step, or after 200.

    Source: Pillutla, Kakade, Harchaoui, Robust aggregation (arXiv 1912.13445); Vardi, Zhang, The
    multivariate L1-median (PNAS 2000); Polyak, Some methods of speeding up the convergence of
    iteration methods (1964).
    """
    points = _in_an_order_of_their_own(predictions)
    distances = _summed_distances(points)
    best = (distances <= distances.min(axis=0) * (1 + _STEP))[..., np.newaxis]
    found: Scores = added(np.where(best, points, 0.0)) / best.sum(axis=0)
    at = _step(points, found)
    moving = np.flatnonzero((np.abs(at - found) > _STEP).any(axis=-1))
    if not moving.size:
        return found
    points, at = points[:, moving], at[moving]
    move = at - found[moving]
    for number in range(_ITERATIONS):
        towards = points - at
        distance = np.maximum(_lengths(towards), _TOUCHING)[..., np.newaxis]
        move *= _KEPT
        move += _LONGER * (added(towards / distance) / added(1.0 / distance))
        at += move
        if number % _LOOK < _LOOK - 1:
            continue
        found[moving] = at
        still = (np.abs(move) > _STEP).any(axis=-1)
        if not still.any():
            break
        if not still.all():
            moving, points = moving[still], points[:, still]
            at, move = at[still], move[still]
    return found


def _summed_distances(points: Stack) -> NDArray[np.float64]:
    """From each point to all of its row: [participants, rows]."""
    if points.size * points.shape[0] > _AT_ONCE:
        return np.stack([added(_lengths(points - point)) for point in points])
    return added(_lengths(points[:, np.newaxis] - points))


def _step(points: Stack, at: Scores) -> Scores:
    """A step of Weiszfeld's iteration, or of Vardi and Zhang's where it meets a point."""
    towards = points - at
    distance = _lengths(towards)
    touching = distance < _TOUCHING
    pull = np.where(touching, 0.0, 1.0 / np.where(touching, 1.0, distance))
    summed = added(pull)
    direction = added(towards * pull[..., np.newaxis])
    step = direction / np.where(summed > 0, summed, 1.0)[:, np.newaxis]
    met = touching.sum(axis=0)
    if met.any():
        force = _lengths(direction)
        free = np.where(met < force, 1.0 - met / np.where(force > 0, force, 1.0), 0.0)
        step *= np.where(met > 0, free, 1.0)[:, np.newaxis]
    return np.asarray(at + step)


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.add.accumulate(vectors * vectors, axis=-1)[..., -1])


def _in_an_order_of_their_own(predictions: Stack) -> NDArray[np.float64]:
    """The predictions of each row sorted by their values, so that no sum depends on who said it."""
    order = np.lexsort(np.moveaxis(predictions, -1, 0)[::-1], axis=0)
    return predictions[order, np.arange(predictions.shape[1])]
