"""What the federation allows: protections, rules, forms, quorum, deadlines and caps."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Le, Len

from fi_stream.federation.settings import Settings


class Protection(StrEnum):
    """Who may see one participant's answer (DESIGN 2); later levels come with their code."""

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
    limits: Limits = Limits()
    noisy_max: NoisyMaxPolicy | None = None
