"""Why a policy and what a member says of its noise do not go together, by the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.federation.member import Mechanism, OwnMechanism
from fi_stream.federation.policy import Form, Protection
from fi_stream.privacy.allowed import ANY_OWN, CENTRAL, ONE_BY_ONE, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fi_stream.federation.member import PrivacySection
    from fi_stream.federation.policy import Policy


def refuse(
    form: Form,
    rule: str,
    mechanism: Mechanism | OwnMechanism,
    protection: Protection = Protection.TRUSTED,
) -> str | None:
    """Why these do not go together, with the nearest choice that does; None when they do."""
    lines = [line for line in TABLE if line.speaks_of(mechanism)]
    fitting = [line for line in lines if line.form == form]
    if not fitting:
        forms = _or(dict.fromkeys(line.form for line in lines))
        return (
            f"mechanism {mechanism.value!r} does not give form {form.value!r}: "
            f"{lines[0].why}. Use form {forms}, or mechanism {_or(_mechanisms(form, protection))}"
            f"{_readers(rule, form, protection)}."
        )
    line = next((line for line in fitting if protection in line.protections), None)
    if line is None:
        protections = _or(p for line in fitting for p in line.protections)
        return (
            f"protection {str(protection)!r} does not go with mechanism {mechanism.value!r} and "
            f"form {form.value!r}: {fitting[0].why}. Use protection {protections}"
            f"{_under(protection)}."
        )
    if not line.reads(rule):
        return (
            f"rule {rule!r} cannot read form {form.value!r} with mechanism {mechanism.value!r} "
            f"under protection {protection.value!r}: {line.why}. Use rule {_or(line.rules)}"
            f"{_elsewhere(rule, protection)}."
        )
    return None


def first_refusal(
    form: Form,
    rules: Iterable[str],
    mechanism: Mechanism | OwnMechanism,
    protections: Iterable[Protection],
) -> str | None:
    """The first of a policy's combinations that does not go with a mechanism, as `refuse` says."""
    protections = tuple(protections)
    reasons = (refuse(form, r, mechanism, p) for r in rules for p in protections)
    return next((reason for reason in reasons if reason), None)


def refuse_privacy(policy: Policy, privacy: PrivacySection) -> str | None:
    """Why a participant's `[privacy]` does not go with the policy; None when it does."""
    if policy.noisy_max is not None and privacy.mechanism is not Mechanism.NONE:
        return (
            f"mechanism {privacy.mechanism.value!r} does not go with [policy.noisy_max]: "
            f'{CENTRAL.why}. Use mechanism "none", or a policy without noisy_max.'
        )
    if privacy.mechanism is not Mechanism.NONE and policy.confidence_cap is not None:
        return (
            f"mechanism {privacy.mechanism.value!r} does not go with confidence_cap = "
            f"{policy.confidence_cap:g}: noised integers have no confidence to bound. "
            'Use mechanism "none", or a policy without confidence_cap.'
        )
    if privacy.weight_levels > 1 and "soft" not in policy.rules:
        return (
            f"weight_levels = {privacy.weight_levels} does not go with rule {_or(policy.rules)}, "
            "which counts every label as one vote, so that the weight would only cost epsilon. "
            "Use weight_levels = 1, or rule 'soft'."
        )
    return first_refusal(policy.form, policy.rules, privacy.mechanism, policy.protections)


def refuse_aggregator(policy: Policy, privacy: PrivacySection | None) -> str | None:
    """Why an aggregator's `[privacy]` does not go with the policy; None when it does."""
    central = policy.noisy_max
    if central is None:
        return None
    if privacy is None or privacy.mechanism is not Mechanism.NOISY_MAX:
        return (
            "[policy.noisy_max] has the aggregator add the noise, and it must remember what each "
            'client used up. Use [privacy] with mechanism = "noisy_max", epsilon, budget, ledger.'
        )
    if privacy.epsilon is None or privacy.epsilon < central.epsilon:
        return (
            f"epsilon = {privacy.epsilon} is the most that a row may cost here, and the policy "
            f"asks for {central.epsilon:g}. Use epsilon = {central.epsilon:g} or more."
        )
    return None


def may_leave_simplex(form: Form, rules: Iterable[str], protections: Iterable[Protection]) -> bool:
    """Whether a policy lets an answer be noised integers, which nothing bounds."""
    return first_refusal(form, rules, Mechanism.GAUSSIAN, protections) is None


def refuse_policy(policy: Policy) -> str | None:
    """Why nobody could answer under this policy; None when some mechanism goes with all of it."""
    if policy.noisy_max is not None:
        return _refuse_central(policy)
    if policy.confidence_cap is not None and policy.form is not Form.PROBABILITIES:
        return (
            f"confidence_cap = {policy.confidence_cap:g} does not go with form 'label', which "
            "says nothing of confidence. Use form 'probabilities', or remove it."
        )
    if Protection.SECAGG in policy.protections and (learnt := _learnt(policy)):
        return (
            f"{learnt[0]} does not go with protection 'secagg': nobody sees one answer there, so "
            f"that none can be compared or bounded. Use protections {_or(ONE_BY_ONE)}, or remove "
            f"{learnt[0].split()[0]}."
        )
    for protection in policy.protections:
        lines = [
            line for line in TABLE if line.form == policy.form and protection in line.protections
        ]
        if not lines:
            return (
                f"form {policy.form.value!r} does not go with protection {str(protection)!r}"
                f"{_under(protection).replace(', or', ': use', 1)}."
            )
        readable = dict.fromkeys(name for line in lines for name in line.rules)
        wrong = next(
            (rule for rule in policy.rules if not any(line.reads(rule) for line in lines)), None
        )
        if wrong is not None:
            return (
                f"rule {wrong!r} cannot read form {policy.form.value!r} under protection "
                f"{protection.value!r}: use rule {_or(readable)}{_elsewhere(wrong, protection)}."
            )
    if all(
        first_refusal(policy.form, policy.rules, mechanism, policy.protections)
        for mechanism in Mechanism
    ):
        return (
            f"no mechanism goes with form {policy.form.value!r}, rules {_or(policy.rules)} and "
            f"protections {_or(policy.protections)} all at once: use fewer of them."
        )
    return None


def _refuse_central(policy: Policy) -> str | None:
    wrong = [
        f"{key} = {_or(given)}: use {_or(wanted)}"
        for key, given, wanted in (
            ("form", (policy.form,), (CENTRAL.form,)),
            ("rules", policy.rules, CENTRAL.rules),
            ("protections", policy.protections, CENTRAL.protections),
        )
        if set(given) != set(wanted)
    ]
    if policy.early_exit:
        wrong.append("early_exit = true: use false, because when a query ends would tell votes")
    wrong += [f"{each}: remove it, because every vote counts as one" for each in _learnt(policy)]
    if not wrong:
        return None
    return f"[policy.noisy_max] does not go with {'; nor with '.join(wrong)} ({CENTRAL.why})."


def _learnt(policy: Policy) -> list[str]:
    """The keys of a policy that need every answer in the clear, as they are written."""
    share, most = policy.weight_share, policy.confidence_cap
    return [
        *(["gate = true"] if policy.gate else []),
        *([] if share is None else [f"weight_share = {share:g}"]),
        *([] if most is None else [f"confidence_cap = {most:g}"]),
    ]


def _mechanisms(form: Form, protection: Protection) -> list[str]:
    lines = [line for line in TABLE if line.form == form and line.mechanism is not ANY_OWN]
    under = [line for line in lines if protection in line.protections]
    return list(dict.fromkeys(line.mechanism for line in under or lines))


def _readers(rule: str, form: Form, protection: Protection) -> str:
    """Which rules read a form under a protection, as a clause, where this one does not."""
    under = [line for line in TABLE if protection in line.protections]
    lines = [line for line in under if line.form == form] or under
    if any(line.reads(rule) for line in lines):
        return ""
    return f" with rule {_or(dict.fromkeys(name for line in lines for name in line.rules))}"


def _under(protection: Protection) -> str:
    """What does go with a protection, as a clause."""
    lines = [
        line for line in TABLE if protection in line.protections and line.mechanism is not ANY_OWN
    ]
    if not lines:
        return ""
    forms = _or(dict.fromkeys(line.form for line in lines))
    mechanisms = _or(dict.fromkeys(line.mechanism for line in lines))
    return f", or form {forms} with mechanism {mechanisms}"


def _elsewhere(rule: str, protection: Protection) -> str:
    found = next(
        (line for line in TABLE if line.reads(rule) and protection in line.protections), None
    )
    if found is None:
        return ""
    return f", or form {found.form.value!r} with mechanism {found.mechanism.value!r}"


def _or(names: Iterable[str]) -> str:
    return " or ".join(repr(str(name)) for name in names)
