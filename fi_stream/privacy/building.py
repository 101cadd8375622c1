"""From a member file's `[privacy]` to the mechanism that noises its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.federation.member import Mechanism, OwnMechanism
from fi_stream.privacy.mechanisms import DiscreteGaussian, NoNoise, RandomisedResponse
from fi_stream.privacy.own import own_mechanism
from fi_stream.privacy.selection import ShardVotes

if TYPE_CHECKING:
    from fi_stream.federation.member import PrivacySection
    from fi_stream.federation.policy import Form
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.privacy.mechanisms import NoiseMechanism


def build(
    privacy: PrivacySection,
    form: Form,
    classes: int,
    models: int = 1,
    source: NoiseSource | None = None,
) -> NoiseMechanism:
    """The mechanism that a member file asks for.

    Args:
        privacy: its section, complete.
        form: of the policy.
        classes: of the task.
        models: how many models of the participant vote, for noisy max.
        source: of the noise; without one it is drawn in this process. Not that of a mechanism of
            the member's own, which draws itself.

    Raises:
        ConfigError: a parameter is out of range, the form does not go with the mechanism, or
            OpenDP is not installed; or it is one of the member's own that cannot be used.
    """
    built = _build(privacy, form, classes, models, source)
    if built.form is not form:
        raise ConfigError(
            f"mechanism {privacy.mechanism.value!r} under [privacy] gives form "
            f"{built.form.value!r}, and the federation's policy says form = {form.value!r}: "
            "change one of the two."
        )
    return built


def _build(
    privacy: PrivacySection, form: Form, classes: int, models: int, source: NoiseSource | None
) -> NoiseMechanism:
    epsilon, delta = privacy.epsilon or 0.0, privacy.delta or 0.0
    match privacy.mechanism:
        case OwnMechanism() as reference:
            return own_mechanism(reference, privacy, form, classes)
        case Mechanism.NONE:
            return NoNoise(form)
        case Mechanism.RANDOMISED_RESPONSE:
            return RandomisedResponse(classes, epsilon, privacy.weight_levels, source)
        case Mechanism.GAUSSIAN:
            return DiscreteGaussian(epsilon, delta, source)
        case Mechanism.NOISY_MAX:
            return ShardVotes(models, epsilon, source)
