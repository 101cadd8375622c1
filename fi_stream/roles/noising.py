"""Recorded answers noised as each participant would have: for a what-if, and never released."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from fi_stream.aggregation.answers import prediction_of
from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE
from fi_stream.aggregation.whatif import numbers
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Answer
from fi_stream.events.refusals import Refusal
from fi_stream.events.tensors import Datatype, Tensor, to_tensor
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Form
from fi_stream.privacy.calibration import (
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_DELTA,
    SMALLEST_EPSILON,
)
from fi_stream.privacy.compatibility import refuse
from fi_stream.privacy.draws import Drawing
from fi_stream.privacy.mechanisms import DiscreteGaussian, RandomisedResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.events.recording import Recorded
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.privacy.mechanisms import NoiseMechanism

_Readable = TypeVar("_Readable")

DELTA: Final = 1e-5

_FORMS: Final = {
    Mechanism.RANDOMISED_RESPONSE: Form.LABEL,
    Mechanism.GAUSSIAN: Form.PROBABILITIES,
}


@dataclass(frozen=True, slots=True)
class Noising:
    """How each participant noises each row.

    `delta` is of Gaussian noise; without a `mechanism` it is the one that goes with the rule.

    Raises:
        ConfigError: a number is out of range, or participants do not noise answers like that.
    """

    epsilon: float
    delta: float = DELTA
    mechanism: Mechanism | None = None

    def __post_init__(self) -> None:
        if not SMALLEST_EPSILON <= self.epsilon <= LARGEST_EPSILON:
            allowed = f"{SMALLEST_EPSILON:g} to {LARGEST_EPSILON:g}"
            raise ConfigError(f"--epsilon {self.epsilon:g}: give one row {allowed}.")
        if not SMALLEST_DELTA <= self.delta <= LARGEST_DELTA:
            allowed = f"{SMALLEST_DELTA:g} to {LARGEST_DELTA:g}"
            raise ConfigError(f"--delta {self.delta:g}: give {allowed}.")
        if self.mechanism is not None and self.mechanism not in _FORMS:
            raise ConfigError(f"--mechanism {self.mechanism}: use {' or '.join(_FORMS)}.")

    def mechanism_for(self, rule: str) -> Mechanism:
        """The mechanism whose answers a rule is to read: votes under `hard`, else probabilities.

        Raises:
            ConfigError: the rule cannot read them.
        """
        natural = Mechanism.RANDOMISED_RESPONSE if rule == "hard" else Mechanism.GAUSSIAN
        chosen = self.mechanism or natural
        why = refuse(_FORMS[chosen], rule, chosen)
        if why is not None:
            raise ConfigError(f"--epsilon: {why}")
        return chosen


def noised(
    queries: Sequence[Recorded],
    classes: int,
    noising: Noising,
    rule: str | None = None,
    source: NoiseSource | None = None,
) -> tuple[Recorded, ...]:
    """The same queries with other answers.

    Args:
        queries: with exact answers.
        classes: of the task.
        noising: how.
        rule: that is to decide; None for that which each query was asked under.
        source: of the noise; without one it is drawn now.

    Raises:
        ConfigError: an answer was noised already, a rule cannot read noised ones, or OpenDP is not
            installed.
    """
    for number, one in enumerate(queries, 1):
        whose = _noised_before(one)
        if whose is not None:
            raise ConfigError(
                f"--epsilon: query {number}: the answer of {whose} was noised when it was given, "
                "and noise upon noise tells of no mechanism. Use a recording of exact answers."
            )
    by_mechanism: defaultdict[Mechanism, list[int]] = defaultdict(list)
    for at, one in enumerate(queries):
        by_mechanism[noising.mechanism_for(rule or one.ask.rule)].append(at)
    found = list(queries)
    for mechanism, places in by_mechanism.items():
        built = _built(mechanism, noising, classes, source or Drawing())
        some = _with_noise([queries[at] for at in places], built)
        for at, one in zip(places, some, strict=True):
            found[at] = one
    return tuple(found)


def said(mechanism: NoiseMechanism, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """What whoever decides reads of a noised prediction; both are [rows, classes]."""
    released = mechanism.release(probabilities)
    tensor = _checked(to_tensor(released.form.value, released.values))
    answer = Answer(form=released.form.value, outputs=(tensor,), scale=released.scale)
    return _checked(prediction_of(answer, released.form, *probabilities.shape))


def _with_noise(queries: Sequence[Recorded], mechanism: NoiseMechanism) -> list[Recorded]:
    """All rows of all answers at once, because a draw for one costs many times as much."""
    answers = [numbers(answer.prediction) for one in queries for answer in one.answers]
    if not answers:
        return list(queries)
    rows = np.cumsum([len(answer) for answer in answers])[:-1]
    whole = said(mechanism, np.concatenate(answers).astype(np.float64))
    made = iter(np.split(whole, rows))
    return [
        one.model_copy(
            update={
                "answers": tuple(
                    answer.model_copy(update={"prediction": _tensor(next(made))})
                    for answer in one.answers
                )
            }
        )
        for one in queries
    ]


def _built(
    mechanism: Mechanism, noising: Noising, classes: int, source: NoiseSource
) -> NoiseMechanism:
    if mechanism is Mechanism.RANDOMISED_RESPONSE:
        return RandomisedResponse(classes, noising.epsilon, source=source)
    return DiscreteGaussian(noising.epsilon, noising.delta, source)


def _noised_before(one: Recorded) -> str | None:
    """Whose answer to a query has noise in it: it says so itself, or is off the simplex."""
    declared = next((who.member for who in one.result.contributors if who.noise is not None), None)
    if declared is not None:
        return declared
    for answer in one.answers:
        values = np.asarray(numbers(answer.prediction), dtype=np.float64)
        if values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > SIMPLEX_TOLERANCE:
            return answer.member
    return None


def _tensor(values: NDArray[np.float64]) -> Tensor:
    data = values.astype(Datatype.FP64.numpy).tobytes()
    return Tensor(name="prediction", datatype=Datatype.FP64, shape=values.shape, data=data)


def _checked(found: _Readable | Refusal) -> _Readable:
    """Noise makes nothing of a good prediction that cannot be read."""
    if isinstance(found, Refusal):
        raise TypeError(f"{found.reason}: {found.detail}")
    return found
