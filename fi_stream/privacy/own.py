"""A mechanism of a participant's own, named "module:callable"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.errors import ConfigError, ModelError
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Selection
from fi_stream.federation.references import imported
from fi_stream.privacy.contract import (
    answers_at_start,
    broken_laws,
    same_noise,
    why_not_an_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fi_stream.events.payloads import Noise
    from fi_stream.federation.member import PrivacySection
    from fi_stream.federation.policy import Form
    from fi_stream.privacy.accountant import Charge
    from fi_stream.privacy.mechanisms import NoiseMechanism, Released

_WANTED = (
    "`def {name}(epsilon, delta, classes, form): ...` there, which returns what "
    "fi_stream.privacy.mechanisms.NoiseMechanism asks for"
)
_SEEDED = (
    "two that are built alike have the same noise, and so would a restart: draw it from the "
    "machine's randomness, not by a seed"
)
_LITTLE = 1e-6
"""Of what is allowed: a charge is rounded up, to a whole number of billionths."""


class OwnNoise:
    """Somebody's mechanism, each of whose answers is looked at before it leaves.

    Args:
        reference: what it is called, for messages.
        mechanism: one that keeps the laws.
        classes: of the task.
        cost: what it charges.
        scale: of all its answers.
    """

    def __init__(
        self,
        reference: str,
        mechanism: NoiseMechanism,
        classes: int,
        cost: Charge,
        scale: int | None,
    ) -> None:
        self._reference = reference
        self._mechanism = mechanism
        self._classes = classes
        self._scale = scale
        self.form = mechanism.form
        self.cost = cost

    def release(self, probabilities: NDArray[np.float64]) -> Released:
        """What it releases.

        Raises:
            ModelError: it fails, or this is no answer of the declared form and shape.
        """
        rows = len(probabilities)
        try:
            released = self._mechanism.release(probabilities)
        except Exception as error:  # a participant's own code may raise anything
            raise ModelError(
                f"mechanism {self._reference!r}: {type(error).__name__}: {error}"
            ) from error
        why = why_not_an_answer(released, self.form, rows, self._classes, self._scale)
        if why is not None:
            raise ModelError(f"mechanism {self._reference!r}: {why}")
        return released

    def limit(self, epsilon: float) -> Charge | None:
        """A budget of that epsilon, as it says itself."""
        return self._mechanism.limit(epsilon)

    def declare(self, rows: int, total: Charge) -> Noise | None:
        """What it declares itself."""
        return self._mechanism.declare(rows, total)


def own_mechanism(reference: str, privacy: PrivacySection, form: Form, classes: int) -> OwnNoise:
    """Import the module, build the mechanism, and use it once it is shown to keep the laws.

    Args:
        reference: "module:callable".
        privacy: the participant's section, of which epsilon and delta are handed on.
        form: of the policy.
        classes: of the task.

    Raises:
        ConfigError: it cannot be imported or built, breaks a law, costs more than the section
            allows a row, or has a name of ours.
    """
    make = imported("mechanism", reference, "where the participant runs", _WANTED)
    try:
        made, one, other = (_made(make, privacy, form, classes) for _ in range(3))
        broken = broken_laws(made, classes, answers_at_start(made.form, classes))
        if not broken and same_noise(one, other, classes):
            broken = [_SEEDED]
    except Exception as error:  # a participant's own code may raise anything
        raise ConfigError(
            f"mechanism {reference!r} fails: {type(error).__name__}: {error}. Try it with "
            "`fi_stream.privacy.contract.broken_laws`."
        ) from error
    if broken:
        raise ConfigError(f"mechanism {reference!r} cannot be used: {'; '.join(broken)}.")
    _check_terms(reference, made, privacy)
    assert made.cost is not None  # noqa: S101 - a law
    scale = made.release(np.full((1, classes), 1.0 / classes)).scale
    return OwnNoise(reference, made, classes, made.cost, scale)


def _made(
    make: Callable[..., NoiseMechanism], privacy: PrivacySection, form: Form, classes: int
) -> NoiseMechanism:
    return make(epsilon=privacy.epsilon, delta=privacy.delta or 0.0, classes=classes, form=form)


def _check_terms(reference: str, made: NoiseMechanism, privacy: PrivacySection) -> None:
    """Refuse what costs more than the participant's file allows, or passes for one of ours."""
    assert made.cost is not None  # noqa: S101 - a law
    said = made.declare(1, made.cost)
    assert said is not None  # noqa: S101 - a law
    if said.mechanism in {*Mechanism, *Selection}:
        raise ConfigError(
            f"mechanism {reference!r} declares itself as {said.mechanism!r}, which is one of ours: "
            "results would promise what we answer for. Declare another name."
        )
    for name, declared, allowed in (
        ("epsilon", said.epsilon, privacy.epsilon or 0.0),
        ("delta", said.delta, privacy.delta or 0.0),
    ):
        if declared > allowed * (1 + _LITTLE):
            raise ConfigError(
                f"mechanism {reference!r} declares {name} {declared:g} a row, and [privacy] says "
                f"{allowed:g}: write {name} = {declared:g} or more, or have it do with less."
            )
