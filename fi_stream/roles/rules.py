"""Whether a policy's rules go with its roster and a participant's model, and loading one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.aggregation.evidence import AUGMENTED, DENSITY, ENERGY, EQUAL, SIZED, WEIGHTED
from fi_stream.aggregation.own import own_rule
from fi_stream.aggregation.robust import refuse_trim
from fi_stream.federation.member import Forms, Gives
from fi_stream.federation.policy import Protection
from fi_stream.federation.references import is_own
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import ModelSection
    from fi_stream.federation.task import Task


def refuse_rules(federation: Federation) -> str | None:
    """Why a rule cannot be used with these participants; None when all can."""
    wanted = SIZED & set(federation.policy.rules)
    unknown = sorted(federation.participants - federation.sizes.keys())
    if wanted and unknown:
        return (
            f"rule {min(wanted)!r} weighs by training examples, and nobody says how many "
            f"{', '.join(unknown)} has: write examples = ... under each participant's [[members]]"
        )
    share = federation.policy.weight_share
    if share is not None and not (WEIGHTED.keys() - EQUAL) & set(federation.policy.rules):
        return (
            f"weight_share = {share:g} bounds nothing, because all count the same under "
            f"{' and '.join(federation.policy.rules)}: add a rule that weighs, such as entropy, or "
            "remove weight_share"
        )
    most, classes = federation.policy.confidence_cap, len(federation.task.classes)
    if most is not None and most <= 1 / classes:
        return (
            f"confidence_cap = {most:g} leaves nothing of a prediction of {classes} classes: write "
            f"more than {1 / classes:.2g}"
        )
    if "trimmed_mean" in federation.policy.rules:
        return refuse_trim(len(federation.participants))
    return None


def model_mistakes(federation: Federation, model: ModelSection) -> Iterator[tuple[str, str]]:
    """What `[model]` lacks for rules by which a participant weighs itself: the key, and why."""
    rules = set(federation.policy.rules)
    if ENERGY in rules and model.gives is not Gives.LOGITS:
        yield "gives", f"rule {ENERGY!r} reads logits: have the model give them, and write 'logits'"
    if ENERGY in rules and model.held_out is None:
        yield "held_out", _lacks(ENERGY, "held_out", "examples that it did not learn from")
    if DENSITY in rules and model.training is None:
        yield "training", _lacks(DENSITY, "training", "the examples that it learnt from")
    if wanted := AUGMENTED & rules:
        if model.forms is None:
            why = f"rule {min(wanted)!r} asks a model several forms of a query"
            yield "forms", f'{why}: write "rotations" for square images, or "own" for its own'
        elif model.forms is Forms.ROTATIONS and not _square_images(federation.task):
            why = "only one input of shape [side, side, ...], a square image, can be turned"
            yield "forms", f'{why}: write "own", and give the model a `forms(inputs)`'


def _lacks(rule: str, key: str, what: str) -> str:
    return f'rule {rule!r} compares with {what}: write {key} = "{key}.npz", arrays of them'


def _square_images(task: Task) -> bool:
    shape = task.inputs[0].shape
    return len(task.inputs) == 1 and len(shape) in (2, 3) and shape[0] == shape[1]


def load_rules(federation: Federation, role: Role) -> None:
    """Load a federation's own rules where this role decides by them.

    An aggregator does, and under `blind` the client.

    Raises:
        ConfigError: one is not installed here, or breaks a law that all rules keep.
    """
    policy = federation.policy
    blind = role is Role.CLIENT and Protection.BLIND in policy.protections
    if role is Role.AGGREGATOR or blind:
        for name in filter(is_own, policy.rules):
            own_rule(name)
