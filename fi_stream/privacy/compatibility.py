"""The one table of what goes with what: form x rule x mechanism x protection (DESIGN 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Form, Protection

if TYPE_CHECKING:
    from collections.abc import Iterable


class Allowed(NamedTuple):
    """One line of the table: under these protections, these rules can read such answers."""

    mechanism: Mechanism
    form: Form
    rules: tuple[str, ...]
    protections: tuple[Protection, ...]
    why: str


TABLE: tuple[Allowed, ...] = (
    Allowed(
        Mechanism.NONE,
        Form.PROBABILITIES,
        ("soft", "hard", "entropy"),
        (Protection.TRUSTED, Protection.BLIND),
        "exact probabilities can be read in every way",
    ),
    Allowed(
        Mechanism.NONE,
        Form.LABEL,
        ("hard",),
        (Protection.TRUSTED, Protection.BLIND),
        "a label is one vote",
    ),
    Allowed(
        Mechanism.RANDOMISED_RESPONSE,
        Form.LABEL,
        ("hard",),
        (Protection.TRUSTED, Protection.BLIND),
        "randomised response gives one label a row, and a label is one vote",
    ),
    Allowed(
        Mechanism.GAUSSIAN,
        Form.PROBABILITIES,
        ("soft", "hard"),
        (Protection.TRUSTED, Protection.BLIND),
        "noise takes integers off the simplex: they still add up, the largest is still a vote, "
        "but they have no entropy",
    ),
    Allowed(
        Mechanism.NONE,
        Form.PROBABILITIES,
        ("soft", "hard", "entropy"),
        (Protection.SECAGG,),
        "each participant weighs its own prediction, and only the sum is opened, as it is",
    ),
    Allowed(
        Mechanism.GAUSSIAN,
        Form.PROBABILITIES,
        ("soft", "hard", "entropy"),
        (Protection.SECAGG,),
        "each participant weighs its own prediction before the noise, and only the sum is opened",
    ),
)


def refuse(
    form: Form, rule: str, mechanism: Mechanism, protection: Protection = Protection.TRUSTED
) -> str | None:
    """Why these do not go together, with the nearest choice that does; None when they do."""
    lines = [line for line in TABLE if line.mechanism == mechanism]
    fitting = [line for line in lines if line.form == form]
    fitting.sort(key=lambda line: protection not in line.protections)
    if not fitting:
        forms = _or(line.form for line in lines)
        return (
            f"mechanism {mechanism.value!r} does not give form {form.value!r}: "
            f"{lines[0].why}. Use form {forms}, or mechanism {_or(_mechanisms(form))}."
        )
    line = fitting[0]
    if rule not in line.rules:
        return (
            f"rule {rule!r} cannot read form {form.value!r} with mechanism {mechanism.value!r}: "
            f"{line.why}. Use rule {_or(line.rules)}{_elsewhere(rule)}."
        )
    if protection not in line.protections:
        return (
            f"protection {str(protection)!r} does not go with mechanism {mechanism.value!r}. "
            f"Use protection {_or(line.protections)}."
        )
    return None


def first_refusal(
    form: Form, rules: Iterable[str], mechanism: Mechanism, protections: Iterable[Protection]
) -> str | None:
    """The first of a policy's combinations that does not go with a mechanism, as `refuse` says."""
    protections = tuple(protections)
    reasons = (refuse(form, r, mechanism, p) for r in rules for p in protections)
    return next((reason for reason in reasons if reason), None)


def may_leave_simplex(form: Form, rules: Iterable[str], protections: Iterable[Protection]) -> bool:
    """Whether a policy lets an answer be noised integers, which nothing bounds."""
    return first_refusal(form, rules, Mechanism.GAUSSIAN, protections) is None


def refuse_policy(form: Form, rules: Iterable[str]) -> str | None:
    """Why no mechanism lets these rules read answers of this form; None when one does."""
    lines = [line for line in TABLE if line.form == form]
    readable = dict.fromkeys(name for line in lines for name in line.rules)
    wrong = next((rule for rule in rules if rule not in readable), None)
    if wrong is None:
        return None
    return (
        f"rule {wrong!r} cannot read form {form.value!r}: use rule {_or(readable)}"
        f"{_elsewhere(wrong)}."
    )


def as_markdown() -> str:
    """The table for the docs."""
    rows = [
        "| mechanism | form | rules | protection | why |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| `{line.mechanism}` | `{line.form}` | {', '.join(f'`{r}`' for r in line.rules)} "
        f"| {', '.join(f'`{p}`' for p in line.protections)} | {line.why} |"
        for line in TABLE
    ]
    return "\n".join(rows) + "\n"


def _mechanisms(form: Form) -> list[str]:
    return [line.mechanism for line in TABLE if line.form == form]


def _elsewhere(rule: str) -> str:
    found = next((line for line in TABLE if rule in line.rules), None)
    if found is None:
        return ""
    return f", or form {found.form.value!r} with mechanism {found.mechanism.value!r}"


def _or(names: Iterable[str]) -> str:
    return " or ".join(repr(str(name)) for name in names)
