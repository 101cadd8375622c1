"""Ways to answer wrongly, run against every rule: what is left of its accuracy.

An attacker knows what the honest participants say of each query, says what it likes, and claims the
largest weight that its answer can carry. Its size is what the roster says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bench.utility.accuracy import credit
from bench.utility.contract import Attack
from bench.utility.deciding import counting, decide, probabilities, rules_for
from bench.utility.own_attack import own_attack
from fi_stream.roles.traces import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.guard import Guard

_SURE = 30.0
_ROWS = 2000
_SEED = 7
_STEPS, _RATE = 40, 2.0


@dataclass(frozen=True, slots=True)
class Attacked:
    """The accuracy of a rule, a part of 1, under an attack by so many of the participants."""

    trace: str
    rule: str
    attack: str
    attackers: int
    accuracy: float


def constant(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Always the first class."""
    del others
    return _say(np.zeros(own.shape[0], dtype=np.int64), own.shape[1])


def second_best(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class that is second in the mean of the honest: the cheapest to bring past the first."""
    del own
    mean = _mean(others)
    return _say(np.argsort(mean, axis=1)[:, -2], mean.shape[1])


def least_likely(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class that the honest think least likely."""
    del own
    mean = _mean(others)
    return _say(mean.argmin(axis=1), mean.shape[1])


def class_confusion(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its own best class taken for the next one, always the same way."""
    del others
    classes = own.shape[1]
    return _say((own.argmax(axis=1) + 1) % classes, classes)


def gradient(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps from its own logits that lower the lead of the honest label in the mean of all."""
    said, honest = own.copy(), _mean(others) * others.shape[0]
    rows = np.arange(own.shape[0])
    label = honest.argmax(axis=1)
    for _ in range(_STEPS):
        mine = probabilities(said)
        rest = honest + mine
        rest[rows, label] = -np.inf
        # Of p[c] - p[label]: through softmax, p * (g - p . g).
        direction = np.zeros_like(said)
        direction[rows, rest.argmax(axis=1)] = 1.0
        direction[rows, label] = -1.0
        inner = (mine * direction).sum(axis=1, keepdims=True)
        step = mine * (direction - inner)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        said += _RATE * step / np.maximum(length, 1e-12)
    return said


def imitation(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the first of the others says: a second vote for it, for no work."""
    del own
    return np.array(others[0])


Attacks: TypeAlias = Mapping[str, tuple[Attack, bool]]
"""Each attack, and whether all that are fewer than half collude in it; else one is at it."""

ATTACKS: Attacks = MappingProxyType(
    {
        "constant": (constant, False),
        "second_best": (second_best, False),
        "second_best_colluding": (second_best, True),
        "least_likely": (least_likely, False),
        "class_confusion": (class_confusion, False),
        "gradient": (gradient, False),
        "imitation": (imitation, False),
    }
)
"""Ours."""

NOBODY = "nobody"


def with_own(references: Sequence[str]) -> Attacks:
    """Ours and those of somebody's own, each by one attacker and by all that may collude.

    Args:
        references: each as "module:function".

    Raises:
        ConfigError: one cannot be used.
    """
    own = {name: own_attack(name) for name in references}
    alone = {name: (attack, False) for name, attack in own.items()}
    return {**ATTACKS, **alone, **{f"{name} colluding": (own[name], True) for name in own}}


def measure(trace: Trace, guard: Guard, attacks: Attacks = ATTACKS) -> Iterator[Attacked]:
    """Every rule under every attack, on the first rows of a trace."""
    part = trace.rows(slice(0, _ROWS))
    yield from _decided(NOBODY, 0, part, part, guard)
    for name, (attack, colluding) in attacks.items():
        attackers = _attackers(part, colluding=colluding)
        yield from _decided(name, attackers, part, under(part, attack, attackers), guard)


def _decided(
    name: str, attackers: int, trace: Trace, said: Trace, guard: Guard
) -> Iterator[Attacked]:
    judged = counting(said) if guard.gate else None
    for rule in rules_for(trace):
        right = credit(decide(rule, said, guard, judged), trace.labels)
        yield Attacked(trace.name, rule, name, attackers, float(right.mean()))


def under(trace: Trace, attack: Attack, attackers: int) -> Trace:
    """The trace with so many participants, drawn once and for all, attacking in that way."""
    order = np.random.default_rng(_SEED).permutation(trace.logits.shape[0])
    bad, good = order[:attackers], order[attackers:]
    logits, ratio = trace.logits.copy(), trace.log_density_ratio.copy()
    for one in bad:
        logits[one] = attack(trace.logits[one], trace.logits[good])
        # more than is believed of anybody
        ratio[one] = 100.0
    return Trace(trace.name, logits, trace.labels, trace.class_counts, ratio)


def _attackers(trace: Trace, *, colluding: bool) -> int:
    """How many attack: one if somebody honest is left, or all that are fewer than half."""
    participants = len(trace.logits)
    if participants < 2:
        return 0
    return max(1, (participants - 1) // 2) if colluding else 1


def _mean(others: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(probabilities(others).mean(axis=0))


def _say(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    logits = np.zeros((labels.size, classes))
    logits[np.arange(labels.size), labels] = _SURE
    return logits
