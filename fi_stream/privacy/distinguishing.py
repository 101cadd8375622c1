"""How well somebody who reads noised answers can tell two predictions apart (DESIGN 10).

A game: each row's prediction is one of two, by a coin. Whoever sees the answers guesses the coins.
Epsilon bounds how much better than chance any guess can be, so a guess that does well is a lower
bound of the epsilon that is really given. Half of the answers choose the guess, the others count.

Sources: Jagielski, Ullman and Oprea 2020 (a lower bound from the errors of a test); Nasr et al.
2023 (for Gaussian noise by its own trade-off of the two errors, which is tighter).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.privacy.binomial import lower_bound, upper_bound
from fi_stream.privacy.guesses import guesses, repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.privacy.guesses import Guess, Played

ALPHA = 0.001
"""The chance that the bound says too much. 19 of 20 would blame one good participant of twenty."""

_THRESHOLDS = 400
_POINTS = 100
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one row is said to cost; of Gaussian noise its `rho`, and how rho becomes epsilon."""

    epsilon: float
    delta: float
    rho: float | None = None
    rho_epsilon: Callable[[float], float] | None = None

    def allows(self, wrong: float) -> float:
        """How often yes may be right when it is wrong with this chance, by the claim."""
        if self.rho is not None and 0 < wrong < 1:
            return _NORMAL.cdf(_NORMAL.inv_cdf(wrong) + math.sqrt(2 * self.rho))
        factor = math.exp(self.epsilon)
        return min(1.0, factor * wrong + self.delta, 1 - (1 - wrong - self.delta) / factor)


@dataclass(frozen=True, slots=True)
class Tried:
    """The best guess: what it looked at, and how often it said yes where that was right or wrong.

    Of `trials[0]` rows where yes was right it said so `hits[0]` times, and of `trials[1]` where it
    was wrong `hits[1]` times; `shares` bounds the first share from below and the second from above.
    """

    looks_at: str
    hits: tuple[int, int]
    trials: tuple[int, int]
    shares: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A lower bound of epsilon that holds but for a chance of `alpha`, beside the claim.

    `ceiling` is the largest bound that as many answers could have given. `curve` is the best guess
    at every threshold: how often its yes was wrong, and how often right.
    """

    claim: Claim
    epsilon: float
    ceiling: float
    tried: Tried
    answers: int
    curve: tuple[tuple[float, float], ...]
    alpha: float = ALPHA

    @property
    def holds(self) -> bool:
        """Whether what is claimed was not refuted."""
        return self.epsilon <= self.claim.epsilon


def judge(played: Played, claim: Claim, alpha: float = ALPHA) -> Verdict:
    """The lower bound that these answers give.

    Args:
        played: the game; the more answers, the tighter the bound.
        claim: of one row.
        alpha: the chance that the bound says too much.
    """
    first, half = played.answers // 8, played.answers // 2
    learnt, lags = played.part(0, first), repeats(played.part(0, half))
    # Not by what was learnt from: what fits it by chance would look best.
    chosen, cut, above = _choose(guesses(played.part(first, half), learnt, lags), claim)
    tests = guesses(played.part(half, played.answers), learnt, lags)
    [test] = (guess for guess in tests if guess.looks_at == chosen.looks_at)
    said = (test.scores >= cut) if above else (test.scores < cut)
    right = test.worlds if above else ~test.worlds
    hits = int(said[right].sum()), int(said[~right].sum())
    trials = int(right.sum()), int((~right).sum())
    shares = (
        lower_bound(hits[0], trials[0], alpha / 2),
        upper_bound(hits[1], trials[1], alpha / 2),
    )
    best = lower_bound(trials[0], trials[0], alpha / 2), upper_bound(0, trials[1], alpha / 2)
    return Verdict(
        claim=claim,
        epsilon=epsilon_at_least(*shares, claim),
        ceiling=epsilon_at_least(*best, claim),
        tried=Tried(test.looks_at, hits, trials, shares),
        answers=played.answers,
        curve=_curve(test),
        alpha=alpha,
    )


def epsilon_at_least(right: float, wrong: float, claim: Claim) -> float:
    """The least epsilon with which a test can say yes that often.

    Args:
        right: of the rows where yes is right, the share in which it is said; at least.
        wrong: the same where it is wrong; at most.
        claim: its delta, and whether the noise is Gaussian.
    """
    if right <= wrong:
        return 0.0
    if wrong <= 0 or (right >= 1 and claim.rho_epsilon is not None):
        return math.inf
    general = math.log((right - claim.delta) / wrong) if right > claim.delta else 0.0
    if claim.rho_epsilon is None:
        return max(0.0, general)
    mu = _NORMAL.inv_cdf(right) - _NORMAL.inv_cdf(wrong)
    return max(0.0, general, claim.rho_epsilon(mu * mu / 2))


def _curve(guess: Guess) -> tuple[tuple[float, float], ...]:
    ones, zeros = np.sort(guess.scores[guess.worlds]), np.sort(guess.scores[~guess.worlds])
    places = np.linspace(0, 1, _POINTS)
    cuts = np.unique(np.quantile(guess.scores, places, method="nearest"))[::-1]
    yes = [(1 - np.searchsorted(each, cuts) / len(each)) for each in (zeros, ones)]
    return ((0.0, 0.0), *((float(x), float(y)) for x, y in zip(*yes, strict=True)))


def _choose(tried: list[Guess], claim: Claim) -> tuple[Guess, float, bool]:
    """The guess, its threshold, and whether yes is at or above it, that look best."""
    best: tuple[float, Guess, float, bool] | None = None
    for guess in tried:
        for cut, above, right, wrong in _rates(guess):
            score = _quick(right, wrong, claim)
            if best is None or score > best[0]:
                best = score, guess, cut, above
    assert best is not None  # there is always the answer itself  # noqa: S101
    return best[1], best[2], best[3]


def _rates(guess: Guess) -> list[tuple[float, bool, float, float]]:
    """Each threshold with the shares of yes, cautiously: as if they were a little worse."""
    ones, zeros = np.sort(guess.scores[guess.worlds]), np.sort(guess.scores[~guess.worlds])
    if not len(ones) or not len(zeros):
        return []
    every = np.unique(np.concatenate([ones, zeros]))
    if len(every) > _THRESHOLDS:
        every = np.unique(np.quantile(every, np.linspace(0, 1, _THRESHOLDS), method="nearest"))
    found = []
    for cut in every:
        yes_one = 1 - np.searchsorted(ones, cut) / len(ones)
        yes_zero = 1 - np.searchsorted(zeros, cut) / len(zeros)
        found.append((float(cut), True, _less(yes_one, len(ones)), _more(yes_zero, len(zeros))))
        found.append(
            (float(cut), False, _less(1 - yes_zero, len(zeros)), _more(1 - yes_one, len(ones)))
        )
    return found


def _quick(right: float, wrong: float, claim: Claim) -> float:
    """Ranks tests as `epsilon_at_least` would, without its conversion."""
    if right <= wrong:
        return 0.0
    if claim.rho_epsilon is None:
        return math.log(right / wrong)
    return _NORMAL.inv_cdf(min(right, 1 - 1e-12)) - _NORMAL.inv_cdf(max(wrong, 1e-12))


def _more(share: float, trials: int, deviations: float = 3.5) -> float:
    """Wilson's upper bound."""
    spread = deviations**2 / trials
    root = deviations * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return float(min(1.0, (share + spread / 2 + root) / (1 + spread)))


def _less(share: float, trials: int) -> float:
    return 1.0 - _more(1.0 - share, trials)
