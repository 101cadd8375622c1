"""What the federation allows: protections, rules, forms, quorum, deadlines and caps."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import model_validator

from fi_stream.federation.settings import Settings, refuse


class Protection(StrEnum):
    """Who may see one participant's answer (DESIGN 2).

    `trusted`: the aggregator, with which the others have no more than the result; `blind`: only the
    client that asked; `secagg`: nobody.
    """

    TRUSTED = "trusted"
    BLIND = "blind"
    SECAGG = "secagg"


class Selection(StrEnum):
    """How noisy max picks a class by its votes; `permute_and_flip` is never worse."""

    PERMUTE_AND_FLIP = "permute_and_flip"
    EXPONENTIAL = "exponential"


class Form(StrEnum):
    """What an answer carries for each row."""

    PROBABILITIES = "probabilities"
    LABEL = "label"


class Limits(Settings):
    """Bounds that every role enforces; times in milliseconds."""

    max_deadline_ms: Annotated[int, Ge(10), Le(600_000)] = 30_000
    hop_ms: Annotated[int, Ge(0), Le(5_000)] = 15
    max_skew_ms: Annotated[int, Ge(1), Le(60_000)] = 2_000
    max_rows: Annotated[int, Ge(1), Le(65_536)] = 1_024
    max_message_bytes: Annotated[int, Ge(4_096), Le(64 * 2**20)] = 1_000_000


class SecaggPolicy(Settings):
    """`[policy.secagg]`: of how many answers a sum is released, and the noise in it.

    `epsilon` and `delta` are of one row of the sum, at a client that sees nothing else: each
    participant adds so much noise that `k_min - colluders` honest ones already give them. Without
    both the sum is exact. `colluders` is how many contributors may tell the client their own noise.
    """

    k_min: Annotated[int, Ge(2)]
    colluders: Annotated[int, Ge(0)] = 0
    epsilon: Annotated[float, Ge(0.001), Le(32)] | None = None
    delta: Annotated[float, Ge(1e-15), Le(0.01)] | None = None

    @property
    def honest(self) -> int:
        """How many contributors' noise is counted on."""
        return self.k_min - self.colluders

    @model_validator(mode="after")
    def _fits(self) -> Self:
        mistakes = []
        if self.honest < 2:
            mistakes.append(
                f"colluders: k_min - colluders is {self.honest}, and less than 2 honest answers "
                f"hide none: write {max(0, self.k_min - 2)} or less, or raise k_min"
            )
        if (self.epsilon is None) is not (self.delta is None):
            missing = "epsilon" if self.epsilon is None else "delta"
            mistakes.append(f"{missing}: is missing; write epsilon and delta, or neither: no noise")
        refuse(mistakes)
        return self


class NoisyMaxPolicy(Settings):
    """Noise that the aggregator adds, once, to the votes of all: only the label leaves it.

    `epsilon` is of one row, and counts against the client alone: the aggregator sees every vote.
    """

    mechanism: Selection = Selection.PERMUTE_AND_FLIP
    epsilon: Annotated[float, Ge(0.001), Le(32)]


class Policy(Settings):
    """The federation's rules of the road; the first rule and protection are the defaults."""

    protections: Annotated[tuple[Protection, ...], Len(1)] = (Protection.TRUSTED,)
    rules: Annotated[tuple[str, ...], Len(1)] = ("soft", "hard", "entropy")
    form: Form = Form.PROBABILITIES
    quorum: Annotated[int, Ge(1)] = 1
    early_exit: bool = True
    recording: bool = False
    withstand: Annotated[int, Ge(0)] = 0
    gate: bool = False
    weight_share: Annotated[float, Gt(0), Le(1)] | None = None
    confidence_cap: Annotated[float, Gt(0), Lt(1)] | None = None
    secagg: SecaggPolicy | None = None
    limits: Limits = Limits()
    noisy_max: NoisyMaxPolicy | None = None
