"""What a result says about privacy: typed facts, with one plain sentence (DESIGN 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.events.payloads import Noise

UNIT = "one participant's whole answer (its model and data)"
EXAMPLE = "one example of one participant's training data"
"""The unit where a participant's models vote: each has learnt from its own part of the data."""

STREAM_LIMIT = 10.0
"""Above this cumulative epsilon, a stream of answers is not private, and we say so."""

_AGAINST = {
    Protection.TRUSTED: ("aggregator", "client"),
    Protection.BLIND: ("client",),
    Protection.SECAGG: ("client",),
}
_BLIND = {
    Protection.TRUSTED: (),
    Protection.BLIND: ("aggregator",),
    Protection.SECAGG: ("leader", "helper"),
}


@dataclass(frozen=True, slots=True)
class Guarantee:
    """How much a query's result, and all of this client's so far, may tell of one participant.

    Epsilons are infinite when any contributor adds no noise. `against` names the roles that see no
    more than noised answers, or their noised sum under `secagg`; `blind` those of which each by
    itself sees no answer at all; `all_seeing` those that see every answer without noise. Under
    `secagg` the epsilons hold while `honest` contributors add their part of the noise and keep it
    to themselves. Contributors `declare` their noise, always: nobody can check it.
    """

    protection: Protection
    mechanism: str
    epsilon_query: float
    epsilon_total: float
    delta: float
    against: tuple[str, ...]
    unit: str = UNIT
    blind: tuple[str, ...] = ()
    all_seeing: tuple[str, ...] = ()
    honest: int | None = None
    declared: bool = True

    @property
    def per_query_only(self) -> bool:
        """Whether so much was told already that the stream as a whole is not private."""
        return self.epsilon_total > STREAM_LIMIT

    @property
    def sentence(self) -> str:
        """The guarantee in one sentence for people."""
        if math.isinf(self.epsilon_query):
            return f"{self._without_noise()}: epsilon is infinite{self._unseeing()}."
        delta = f" at delta {self.delta:g}" if self.delta else ""
        alone = " alone" if self.all_seeing else ""
        protected = (
            f"Against {_the(self.against)}{alone}, {self.unit} is protected with epsilon "
            f"{_shown(self.epsilon_query)} for this query and {_shown(self.epsilon_total)} for "
            f"all of this client's queries so far{delta}, by {self.mechanism}"
        )
        parts = [protected]
        if self.honest is not None:
            parts.append(
                f" on the sum, while at least {self.honest} contributors are honest and keep their "
                "part of the noise to themselves"
            )
        if self.all_seeing:
            parts.append(f"; {_the(self.all_seeing)}, which adds the noise, sees every answer")
        parts.append(self._unseeing())
        if self.all_seeing:
            parts.append("; that the noise was added is declared by the aggregator")
        else:
            parts.append("; contributors declare their noise")
        if self.per_query_only:
            parts.append("; this is per-query noise only, no stream-level privacy")
        return "".join(parts) + "."

    def _without_noise(self) -> str:
        seen = f"the sum with {self.unit}" if self.protection is Protection.SECAGG else self.unit
        sees = "see" if len(self.against) > 1 else "sees"
        return (
            f"{_the(self.against).capitalize()} {sees} {seen} without noise (contributors declare "
            "their noise, and at least one declares none)"
        )

    def _unseeing(self) -> str:
        if not self.blind:
            return ""
        if len(self.blind) == 1:
            return f"; {_the(self.blind)} sees no answer, only ciphertexts"
        return f"; {_the(self.blind)}, each alone, see nothing of any answer"

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
            "blind": list(self.blind),
            "all_seeing": list(self.all_seeing),
            "honest": self.honest,
            "declared": self.declared,
            "per_query_only": self.per_query_only,
            "sentence": self.sentence,
        }


def guarantee(
    protection: Protection,
    declared: Sequence[Noise | None],
    *,
    central: Noise | None = None,
    honest: int | None = None,
) -> Guarantee | None:
    """What holds for the least protected of the contributors.

    Args:
        protection: of the query.
        declared: each contributor's noise; None where it adds none.
        central: the noise that the aggregator added to all their votes, if it did.
        honest: under `secagg`, of how many contributors the parts of the noise are enough:
            `k_min` less the colluders that are tolerated.

    Returns:
        None when nobody contributed: there is nothing to say.

    Raises:
        ConfigError: under `secagg` it is not said how many must be honest, and what is declared
            would be too good.
    """
    if not declared:
        return None
    if central is not None:
        return _central(central)
    noised = [noise for noise in declared if noise is not None]
    bare = len(noised) < len(declared)
    if protection is Protection.SECAGG and not bare and honest is None:
        raise ConfigError("a guarantee under secagg needs k_min and the colluders tolerated")
    names = {noise.mechanism for noise in noised} | ({Mechanism.NONE.value} if bare else set())
    return Guarantee(
        protection=protection,
        mechanism=" and ".join(sorted(names)),
        epsilon_query=math.inf if bare else max(noise.epsilon for noise in noised),
        epsilon_total=math.inf if bare else max(noise.total for noise in noised),
        delta=max((noise.delta for noise in noised), default=0.0),
        against=_AGAINST[protection],
        # What protects a whole answer protects an example of it as well, not the other way round.
        unit=EXAMPLE if Mechanism.NOISY_MAX.value in names else UNIT,
        blind=_BLIND[protection],
        honest=honest if protection is Protection.SECAGG and not bare else None,
    )


def _central(noise: Noise) -> Guarantee:
    return Guarantee(
        protection=Protection.TRUSTED,
        mechanism=noise.mechanism,
        epsilon_query=noise.epsilon,
        epsilon_total=noise.total,
        delta=noise.delta,
        against=("client",),
        all_seeing=("aggregator",),
    )


def plain(epsilon: float) -> float | str:
    """An epsilon for JSON, which has no infinity."""
    return "infinite" if math.isinf(epsilon) else epsilon


def _the(roles: Sequence[str]) -> str:
    return " and ".join(f"the {role}" for role in roles)


def _shown(epsilon: float) -> str:
    """Four digits, rounded up: a guarantee is never shown better than it is."""
    rounded = Context(prec=4, rounding=ROUND_CEILING).create_decimal(Decimal(repr(epsilon)))
    return f"{float(rounded):g}"
