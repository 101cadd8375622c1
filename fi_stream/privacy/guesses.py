"""What a reader of noised answers may look at to tell which of two predictions they are of.

Each guess finds one kind of fault: the answer itself finds too little noise, its last digits find
what was added after rounding, two answers together find noise that was used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_OFF_GRID = 0.3 / 2**16
_MODULI = (2, 4, 16, 256)
_LAGS = 3
_SHIFTS = 8
_PARTS = 16


VOTERS = 3
"""Models that vote, of a participant whose noise protects one of their votes."""


def one_vote_apart(classes: int) -> NDArray[np.float64]:
    """Shares of the votes that one voter decides, [2, classes]."""
    shares = np.zeros((2, classes))
    shares[0, :2] = (VOTERS + 1) // 2, VOTERS // 2
    shares[1, :2] = VOTERS // 2, (VOTERS + 1) // 2
    return shares / VOTERS


def neighbours(classes: int) -> NDArray[np.float64]:
    """Two predictions as far apart as any, [2, classes]; the first between the steps of the grid.

    The first is nearly sure of class 0, with a little of a step for each other class, the second
    sure of class 1.
    """
    predictions = np.zeros((2, classes))
    predictions[0] = _OFF_GRID
    predictions[0, 0] = 1 - _OFF_GRID * (classes - 1)
    predictions[1, 1] = 1.0
    return predictions


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """The answers to rows whose prediction was one of two.

    Args:
        worlds: bool [answers], which of the two predictions each row had.
        predictions: [2, classes], the two.
        values: int64 [answers] of labels, or [answers, classes] of noised probabilities.
        scale: the steps in 1.0 of integers, or the levels of a weight that labels carry; None of
            plain labels, and of probabilities as floats.
        first: how many answers came before these.
    """

    worlds: NDArray[np.bool_]
    predictions: NDArray[np.float64]
    values: NDArray[np.int64] | NDArray[np.float64]
    scale: int | None
    first: int = 0

    @property
    def answers(self) -> int:
        """How many rows were answered."""
        return len(self.worlds)

    @property
    def labels(self) -> bool:
        """Whether an answer is one label."""
        return self.values.ndim == 1

    @property
    def categories(self) -> int:
        """How many different labels there are, each with its weight."""
        return int(self.predictions.shape[1]) * (self.scale or 1)

    @property
    def exact(self) -> NDArray[np.int64]:
        """The two labels without noise, of a model that is sure."""
        levels = self.scale or 1
        return np.asarray(self.predictions.argmax(axis=1) * levels + levels - 1)

    def part(self, start: int, stop: int) -> Played:
        """The answers of these rows."""
        rows = slice(start, stop)
        worlds, values = self.worlds[rows], self.values[rows]
        return Played(worlds, self.predictions, values, self.scale, self.first + start)


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """A number for each of some rows, the larger the more it looks like the second prediction."""

    looks_at: str
    worlds: NDArray[np.bool_]
    scores: NDArray[np.float64]


def guesses(played: Played, learnt: Played, lags: Sequence[int]) -> list[Guess]:
    """All guesses.

    Args:
        played: what to guess about.
        learnt: earlier answers, from which is learnt what to look at.
        lags: the numbers of rows after which noise may repeat.
    """
    return [
        *(_of_labels(played, learnt) if played.labels else _of_scores(played, learnt)),
        *_of_pairs(played, lags),
    ]


def repeats(played: Played) -> list[int]:
    """The numbers of rows after which noise most seems to repeat, up to half of them."""
    noise = _noise(played)
    if played.labels:
        signal = np.exp(2j * np.pi * noise / played.categories)
    else:
        signal = noise[:, 0].astype(np.complex128)
    signal = signal - signal.mean()
    length = 2 * len(signal)
    spectrum = np.fft.fft(signal, length)
    agree = np.abs(np.fft.ifft(np.abs(spectrum) ** 2))[1 : len(signal) // 2]
    agree = agree / np.sqrt(np.arange(len(signal) - 1, len(signal) - 1 - len(agree), -1))
    # Of what repeats after 5 rows also repeats after 10: the nearest of equals comes first.
    return [int(lag) + 1 for lag in np.argsort(-agree, kind="stable")[:_LAGS]]


def _of_labels(played: Played, learnt: Played) -> Iterator[Guess]:
    yield Guess("the label", played.worlds, _likeness(played.values, learnt.values, learnt.worlds))


def _of_scores(played: Played, learnt: Played) -> Iterator[Guess]:
    between = played.predictions[1] - played.predictions[0]
    yield Guess("the scores", played.worlds, played.values @ between)
    for place in _two_classes(played):
        name = f"the score of class {place}"
        yield Guess(name, played.worlds, played.values[:, place].astype(np.float64))
        for modulus in _MODULI:
            name = f"the last digits of class {place}'s score, modulo {modulus}"
            ours, theirs = (_digits(each, place, modulus) for each in (played, learnt))
            yield Guess(name, played.worlds, _likeness(ours, theirs, learnt.worlds))


def _of_pairs(played: Played, lags: Sequence[int]) -> Iterator[Guess]:
    """Two answers so many rows apart: what the first's noise would make of the second's.

    Each answer is in one pair only, so that pairs are as independent as their noise. The first's
    prediction is known, the second's is to be guessed.
    """
    noise = _noise(played)
    for lag in lags:
        for shift in sorted({lag * part // _SHIFTS for part in range(_SHIFTS)}):
            firsts = np.arange(played.answers - lag)
            firsts = firsts[(firsts + played.first + shift) // lag % 2 == 0]
            seconds = firsts + lag
            off = [_distance(played, seconds, noise[firsts], world) for world in (0, 1)]
            scores = np.log1p(off[0]) - np.log1p(off[1])
            name = f"answers {lag} rows apart, shifted by {shift}"
            yield Guess(name, played.worlds[seconds], scores)


def _noise(played: Played) -> NDArray[np.float64]:
    """What was added, to somebody who knows the prediction: [answers] or [answers, classes]."""
    chosen = played.worlds.astype(np.int64)
    if played.labels:
        return np.asarray((played.values - played.exact[chosen]) % played.categories)
    return np.asarray(played.values - _exact(played)[chosen])


def _distance(
    played: Played, rows: NDArray[np.int64], noise: NDArray[np.float64], world: int
) -> NDArray[np.float64]:
    """How far these answers are from what this noise would have made of that prediction."""
    if played.labels:
        same = (played.values[rows] - played.exact[world] - noise) % played.categories == 0
        return np.where(same, 0.0, 1.0)
    off = played.values[rows] - _exact(played)[world] - noise
    return np.asarray(np.sqrt((off * off).sum(axis=1)))


def _exact(played: Played) -> NDArray[np.float64]:
    """The two predictions in the unit of the answers, [2, classes]."""
    if played.scale is None:
        return played.predictions
    return np.floor(played.predictions * played.scale + 0.5)


def _digits(played: Played, place: int, modulus: int) -> NDArray[np.int64]:
    steps = played.values[:, place]
    if steps.dtype.kind == "i":
        return np.asarray(steps % modulus, dtype=np.int64)
    # Of floats what is below the grid.
    parts = steps * (1.0 if played.scale is not None else 2.0**16) * _PARTS
    return np.asarray(np.floor(parts) % (modulus * _PARTS), dtype=np.int64)


def _likeness(
    values: NDArray[np.int64] | NDArray[np.float64],
    learnt: NDArray[np.int64] | NDArray[np.float64],
    worlds: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """How much more often each value came of the second prediction, as a logarithm."""
    known = np.unique(learnt)
    places = np.searchsorted(known, learnt)
    ones, zeros = (np.bincount(places[w], minlength=len(known)) + 0.5 for w in (worlds, ~worlds))
    found = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
    return np.where(known[found] == values, np.log(ones / zeros)[found], 0.0)


def _two_classes(played: Played) -> tuple[int, int]:
    """Where the two predictions differ most."""
    first, second = (int(each.argmax()) for each in played.predictions)
    return first, second
