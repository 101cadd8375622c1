"""What a result says about privacy: a typed guarantee, with one plain sentence (DESIGN 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING

from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.events.payloads import Noise

UNIT = "one participant's whole answer (its model and data)"
STREAM_LIMIT = 10.0
"""Above this cumulative epsilon, a stream of answers is not private, and we say so."""

_AGAINST = {
    Protection.TRUSTED: ("aggregator", "client"),
    Protection.BLIND: ("client",),
    Protection.SECAGG: ("client",),
}


@dataclass(frozen=True, slots=True)
class Guarantee:
    """How much a query's result, and all of this client's so far, may tell of one participant.

    Epsilons are infinite when any contributor adds no noise. `against` names the roles that see
    no more than the noised answers.
    """

    protection: Protection
    mechanism: str
    epsilon_query: float
    epsilon_total: float
    delta: float
    against: tuple[str, ...]
    unit: str = UNIT

    @property
    def sentence(self) -> str:
        """The guarantee in one sentence for people."""
        readers = " and ".join(f"the {role}" for role in self.against)
        if math.isinf(self.epsilon_query):
            return (
                f"{readers.capitalize()} see {self.unit} without noise (contributors declare "
                "their noise, and at least one declares none): epsilon is infinite."
            )
        delta = f" at delta {self.delta:g}" if self.delta else ""
        sentence = (
            f"Against {readers}, {self.unit} is protected with epsilon "
            f"{_shown(self.epsilon_query)} for this query and {_shown(self.epsilon_total)} for "
            f"all of this client's queries so far{delta}, by {self.mechanism}; contributors "
            "declare their noise"
        )
        if self.epsilon_total > STREAM_LIMIT:
            sentence += "; this is per-query noise only, no stream-level privacy"
        return sentence + "."

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; infinity is the string "infinite"."""
        return {
            "protection": self.protection.value,
            "mechanism": self.mechanism,
            "epsilon": {
                "per_query": plain(self.epsilon_query),
                "total": plain(self.epsilon_total),
                "unit": self.unit,
                "delta": self.delta,
            },
            "against": list(self.against),
            "sentence": self.sentence,
        }


def guarantee(protection: Protection, declared: Sequence[Noise | None]) -> Guarantee | None:
    """What holds for the least protected of the contributors.

    Args:
        protection: of the query.
        declared: each contributor's noise; None where it adds none.

    Returns:
        None when nobody contributed: there is nothing to say.
    """
    if not declared:
        return None
    noised = [noise for noise in declared if noise is not None]
    bare = len(noised) < len(declared)
    names = {noise.mechanism for noise in noised} | ({Mechanism.NONE.value} if bare else set())
    return Guarantee(
        protection=protection,
        mechanism=" and ".join(sorted(names)),
        epsilon_query=math.inf if bare else max(noise.epsilon for noise in noised),
        epsilon_total=math.inf if bare else max(noise.total for noise in noised),
        delta=max((noise.delta for noise in noised), default=0.0),
        against=_AGAINST[protection],
    )


def plain(epsilon: float) -> float | str:
    """An epsilon for JSON, which has no infinity."""
    return "infinite" if math.isinf(epsilon) else epsilon


def _shown(epsilon: float) -> str:
    """Four digits, rounded up: a guarantee is never shown better than it is."""
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(Decimal(repr(epsilon)))
    return f"{float(rounded):g}"
