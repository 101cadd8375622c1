"""Accuracy under each mechanism and protection: the product's own noise, rules and ties."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from bench.privacy.replaying import Replaying, Silent
from bench.privacy.traces import SHARDS
from fi_stream.aggregation.evaluate import one_hot
from fi_stream.aggregation.rules import rule
from fi_stream.aggregation.ties import labels_of
from fi_stream.federation.policy import Protection, Selection
from fi_stream.privacy.mechanisms import GRID, DiscreteGaussian, RandomisedResponse
from fi_stream.privacy.selection import NoisyMax, ShardVotes
from fi_stream.privacy.weighted import WeightedGaussian
from fi_stream.roles.noising import DELTA, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from bench.privacy.traces import Trace
    from fi_stream.privacy.draws import NoiseSource

    Labels: TypeAlias = NDArray[np.int64]
    Run: TypeAlias = Callable[[Trace, float, NoiseSource], Labels]

EPSILONS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Of one row."""

MOST_ROWS, FEWEST_ROWS = 4_000, 300
MOST_INTEGERS: Final = 300_000
"""Noise on probabilities is one integer a participant, row and class: this many at each epsilon."""

LEVELS: Final = 4
"""Of the weight that randomised response tells with a label."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """The accuracy of one mechanism on one trace; `noiseless` is that of its rule alone."""

    trace: str
    protection: str
    mechanism: str
    epsilon: float
    accuracy: float
    noiseless: float


@dataclass(frozen=True, slots=True)
class Method:
    """One way to add noise: under which protections, and what it does.

    Without noise it is the `rule` on exact predictions; or, if there is none, itself without noise.
    """

    mechanism: str
    protections: tuple[Protection, ...]
    rule: str | None
    run: Run


def measure(
    trace: Trace, source: Replaying, epsilons: Sequence[float] = EPSILONS
) -> Iterator[Measured]:
    """Every method at every epsilon on one trace."""
    sample = trace.at(_rows(trace))
    for method in METHODS:
        if method.run is _votes_of_shards and trace.shares is None:
            continue
        noiseless = _accuracy(trace, _without_noise(method, trace))
        for epsilon in epsilons:
            source.rewind()
            accuracy = _accuracy(sample, method.run(sample, epsilon, source))
            for protection in method.protections:
                yield Measured(
                    trace.name, protection.value, method.mechanism, epsilon, accuracy, noiseless
                )


def _rows(trace: Trace) -> NDArray[np.int64]:
    """Which rows are asked: shuffled, for traces come in order; few rows are asked repeatedly."""
    people, rows, classes = trace.probabilities.shape
    wanted = max(FEWEST_ROWS, min(MOST_ROWS, MOST_INTEGERS // (people * classes)))
    order = np.random.default_rng(_SEED).permutation(rows)
    return np.tile(order, -(-wanted // rows))[: max(wanted, rows * (wanted // rows))]


def _without_noise(method: Method, trace: Trace) -> Labels:
    if method.rule is None:
        return method.run(trace, EPSILONS[0], Silent())
    return _decided(method.rule, trace.probabilities)


def _randomised_response(levels: int, trace: Trace, epsilon: float, source: NoiseSource) -> Labels:
    classes = trace.probabilities.shape[2]
    mechanism = RandomisedResponse(classes, epsilon, levels, source)
    return _decided("soft", np.stack([said(mechanism, each) for each in trace.probabilities]))


def _gaussian_each(trace: Trace, epsilon: float, source: NoiseSource) -> Labels:
    mechanism = DiscreteGaussian(epsilon, DELTA, source)
    return _decided("soft", np.stack([said(mechanism, each) for each in trace.probabilities]))


def _gaussian_on_the_sum(trace: Trace, epsilon: float, source: NoiseSource) -> Labels:
    """All of the roster answer and none colludes: the parts of the noise make up just the whole."""
    people, rows, classes = trace.probabilities.shape
    ones = np.ones((people, rows, 1))
    weighted = np.concatenate([trace.probabilities, ones], axis=2)
    mechanism = WeightedGaussian(epsilon, DELTA, honest=1, source=source)
    # The whole noise once: it is as much as everybody's part of it, and a fraction of the draws.
    whole = mechanism.release(weighted[0]) + np.floor(weighted[1:] * GRID + 0.5).sum(axis=0)
    return labels_of(whole[:, :classes].astype(np.float64), _digests(rows), [1] * rows)


def _votes_of_shards(trace: Trace, epsilon: float, source: NoiseSource) -> Labels:
    """Epsilon is of one example of a participant's data here, and not of its whole answer."""
    shares = np.empty(0) if trace.shares is None else trace.shares
    mechanism = ShardVotes(SHARDS, epsilon, source)
    return _decided("hard", np.stack([said(mechanism, each) for each in shares]))


def _noisy_max(selection: Selection, trace: Trace, epsilon: float, source: NoiseSource) -> Labels:
    classes = trace.probabilities.shape[2]
    votes = [one_hot(each.argmax(axis=1), classes) for each in trace.probabilities]
    total = np.sum(votes, axis=0).astype(np.int64)
    return NoisyMax(epsilon, selection, source).labels(total)


METHODS: Final = (
    Method(
        "randomised_response",
        (Protection.TRUSTED, Protection.BLIND),
        "hard",
        partial(_randomised_response, 1),
    ),
    Method(
        f"randomised_response_{LEVELS}_levels",
        (Protection.TRUSTED, Protection.BLIND),
        None,
        partial(_randomised_response, LEVELS),
    ),
    Method("gaussian", (Protection.TRUSTED, Protection.BLIND), "soft", _gaussian_each),
    Method("gaussian", (Protection.SECAGG,), "soft", _gaussian_on_the_sum),
    Method(
        "permute_and_flip",
        (Protection.TRUSTED,),
        "hard",
        partial(_noisy_max, Selection.PERMUTE_AND_FLIP),
    ),
    Method(
        "exponential",
        (Protection.TRUSTED,),
        "hard",
        partial(_noisy_max, Selection.EXPONENTIAL),
    ),
    Method("noisy_max", (Protection.TRUSTED, Protection.BLIND), None, _votes_of_shards),
)


def _decided(name: str, stack: NDArray[np.float64]) -> Labels:
    return labels_of(rule(name)(stack), _digests(stack.shape[1]), [1] * stack.shape[1])


def _digests(rows: int) -> list[bytes]:
    """A query of its own for each row, so that ties are broken as they are in the stream."""
    return [hashlib.sha256(number.to_bytes(4, "little")).digest() for number in range(rows)]


def _accuracy(trace: Trace, labels: Labels) -> float:
    return float((labels == trace.labels).mean())
