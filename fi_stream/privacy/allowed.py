"""The one table of what goes with what: form x rule x mechanism x protection (DESIGN 5)."""

from __future__ import annotations

from typing import NamedTuple

from fi_stream.federation.member import Mechanism, OwnMechanism
from fi_stream.federation.policy import Form, Protection


class Allowed(NamedTuple):
    """One line of the table: under these protections, these rules can read such answers.

    `own`: so can a rule of the federation's own, which takes predictions on the simplex.
    """

    mechanism: Mechanism | OwnMechanism
    form: Form
    rules: tuple[str, ...]
    protections: tuple[Protection, ...]
    why: str
    own: bool = False

    def speaks_of(self, mechanism: Mechanism | OwnMechanism) -> bool:
        """Whether this line is about a mechanism; all of somebody's own are alike."""
        if isinstance(mechanism, OwnMechanism):
            return self.mechanism is ANY_OWN
        return self.mechanism is mechanism

    def reads(self, rule: str) -> bool:
        """Whether a rule can read such answers; one of the federation's own has a colon."""
        return rule in self.rules or (self.own and ":" in rule)


ANY_OWN = OwnMechanism("module:callable")
"""Stands in the table for every mechanism of a participant's own."""

ONE_BY_ONE = (Protection.TRUSTED, Protection.BLIND)
"""Whoever decides reads each answer: the aggregator, or the client."""

_COMPETENCE = ("competence_entropy", "competence_energy", "competence_density")
_AUGMENTED = ("tta_mean", "tta_l2", "tta_cosine", "tta_kl", "tta_js")

TABLE: tuple[Allowed, ...] = (
    Allowed(
        Mechanism.NONE,
        Form.PROBABILITIES,
        (
            "soft",
            "hard",
            "entropy",
            "consensus",
            "logit_mean",
            "median",
            "trimmed_mean",
            "geometric_median",
            "spectral",
            "hybrid",
            *_COMPETENCE,
            *_AUGMENTED,
        ),
        ONE_BY_ONE,
        "exact probabilities can be read in every way",
        own=True,
    ),
    Allowed(
        Mechanism.NONE,
        Form.PROBABILITIES,
        ("soft", "hard", "entropy", *_COMPETENCE, *_AUGMENTED),
        (Protection.SECAGG,),
        "each participant can weigh its own exact probabilities before they are added up, and "
        "only the sum is read",
    ),
    Allowed(
        Mechanism.NONE,
        Form.LABEL,
        ("hard", "soft"),
        ONE_BY_ONE,
        "a label is one vote",
        own=True,
    ),
    Allowed(
        Mechanism.RANDOMISED_RESPONSE,
        Form.LABEL,
        ("hard", "soft"),
        ONE_BY_ONE,
        "randomised response gives one label a row, and a label is one vote, times its weight "
        "under `soft`; a sum of such votes would need noise of its own",
    ),
    Allowed(
        Mechanism.NOISY_MAX,
        Form.LABEL,
        ("hard", "soft"),
        ONE_BY_ONE,
        "noisy max on the votes of a participant's models gives one label a row, and a label is "
        "one vote",
    ),
    Allowed(
        Mechanism.GAUSSIAN,
        Form.PROBABILITIES,
        ("soft", "hard"),
        ONE_BY_ONE,
        "noise takes integers off the simplex: they still add up, the largest is still a vote, "
        "but they have no entropy",
    ),
    Allowed(
        Mechanism.GAUSSIAN,
        Form.PROBABILITIES,
        ("soft", "hard", "entropy", *_COMPETENCE, *_AUGMENTED),
        (Protection.SECAGG,),
        "each participant weighs its probabilities before it adds its part of the noise, and only "
        "the sum is read",
    ),
    Allowed(
        ANY_OWN,
        Form.LABEL,
        ("hard", "soft"),
        ONE_BY_ONE,
        "a mechanism of your own gives one label a row, and a label is one vote; the noise of a "
        "sum is the federation's",
    ),
    Allowed(
        ANY_OWN,
        Form.PROBABILITIES,
        ("soft", "hard"),
        ONE_BY_ONE,
        "a mechanism of your own gives noised integers: they still add up, and the largest is "
        "still a vote; the noise of a sum is the federation's",
    ),
)

CENTRAL = Allowed(
    Mechanism.NOISY_MAX,
    Form.LABEL,
    ("hard",),
    (Protection.TRUSTED,),
    "the aggregator counts exact votes, and noises only what the client is told",
)
"""What goes with `[policy.noisy_max]`."""


def as_markdown() -> str:
    """The table for the docs."""
    rows = [
        "| mechanism | form | rules | protection | why |",
        "|---|---|---|---|---|",
    ]
    rows += [_row(f"`{line.mechanism}`", line) for line in TABLE]
    rows += [_row("`none`, and `[policy.noisy_max]`", CENTRAL)]
    return "\n".join(rows) + "\n"


def _row(mechanism: str, line: Allowed) -> str:
    return (
        f"| {mechanism} | `{line.form}` | {', '.join(f'`{r}`' for r in line.rules)}"
        f"{', your own' if line.own else ''} "
        f"| {', '.join(f'`{p}`' for p in line.protections)} | {line.why} |"
    )
