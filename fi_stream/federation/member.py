"""A member's private `member.toml` as frozen values (DESIGN 4).

Paths are absolute once a file was loaded: they are read relative to the file's directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from fi_stream.federation.references import is_own
from fi_stream.federation.roster import Role
from fi_stream.federation.settings import Settings, refuse
from fi_stream.values import MemberId


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    whole = (info.context or Path()) / path.expanduser()
    return whole.resolve() if ".." in whole.parts else whole


_FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
_Epsilon = Annotated[float, Ge(0.001), Le(32)]
_Budget = Annotated[float, Gt(0), Le(1e9)]


class Gives(StrEnum):
    """What a model returns for each row and class."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


class Forms(StrEnum):
    """In what forms a participant asks its model a query, for the rules `tta_*`.

    `rotations` are quarter turns of square images; `own` are those that the model itself makes.
    """

    ROTATIONS = "rotations"
    OWN = "own"


class Mechanism(StrEnum):
    """The noise that a participant adds to its answers."""

    NONE = "none"
    RANDOMISED_RESPONSE = "randomised_response"
    GAUSSIAN = "gaussian"
    NOISY_MAX = "noisy_max"


_REFERENCE = r"^[\w.]+:[A-Za-z_]\w*$"


class OwnMechanism(str):
    """The name of a mechanism of somebody's own, "module:callable"."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The name, as `Mechanism` has it."""
        return str(self)


def _named(given: object) -> Mechanism | OwnMechanism:
    if isinstance(given, str) and is_own(given):
        if re.fullmatch(_REFERENCE, given) is None:
            raise ValueError('write "module:callable"')
        return OwnMechanism(given)
    try:
        return Mechanism(str(given))
    except ValueError:
        ours = ", ".join(repr(one.value) for one in Mechanism)
        raise ValueError(f'write {ours}, or "module:callable" of your own') from None


AnyMechanism = Annotated[Mechanism | OwnMechanism, PlainValidator(_named)]


class OwnSection(Settings):
    """`[member]`: who runs this process, and where its federation and keys are."""

    id: MemberId
    federation: _FilePath
    keys: _FilePath
    role: Role | None = None


class ModelSection(Settings):
    """`[model]`: the participant's model, from exactly one source.

    `factory` is `module:callable`, the module being looked for beside `member.toml` first; `onnx`
    is a path; `exported` is a `torch.export` archive of your own, pinned by its `sha256`.
    `version` travels in the header of each answer; without it a digest of the file does. Rules by
    which a participant weighs itself need more: `held_out` (`competence_energy`) and `training`
    (`competence_density`) are `.npz` files of arrays by the names of the task's inputs, `forms` is
    for `tta_*`.
    """

    factory: Annotated[str, StringConstraints(pattern=_REFERENCE)] | None = None
    onnx: _FilePath | None = None
    exported: _FilePath | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    gives: Gives
    device: str | None = None
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    held_out: _FilePath | None = None
    training: _FilePath | None = None
    forms: Forms | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [k for k in ("factory", "onnx", "exported") if getattr(self, k) is not None]
        mistakes = []
        if len(given) != 1:
            mistakes.append(
                f"{' and '.join(given) or 'no source'} given; keep one of "
                '`factory = "module:callable"`, `onnx = "file.onnx"`, `exported = "file.pt2"`'
            )
        if self.exported and not self.sha256:
            mistakes.append(
                "sha256: an exported model is loaded only if it is yours to the byte; "
                "add the output of `sha256sum FILE`"
            )
        if self.sha256 and not self.exported:
            mistakes.append("sha256: pins an exported model only; remove it")
        refuse(mistakes)
        return self


class PrivacySection(Settings):
    """`[privacy]`: the noise on each answer, and what clients may use up.

    `mechanism` is one of ours, or "module:callable", an installed one of the member's own.
    `epsilon` is per row (with `delta` for Gaussian noise); `budget` is the epsilon that each
    client may use up in all, `budget_all` that all clients together may; `ledger` is the file that
    remembers it. With `weight_levels` above 1
    randomised response tells how sure the model is, too. An aggregator needs the section where the
    policy has `noisy_max`: `epsilon` is then the most that it allows a row.
    """

    mechanism: AnyMechanism
    epsilon: _Epsilon | None = None
    delta: Annotated[float, Ge(1e-15), Le(0.01)] | None = None
    budget: _Budget | None = None
    budget_all: _Budget | None = None
    ledger: _FilePath | None = None
    weight_levels: Annotated[int, Ge(1), Le(16)] = 1

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, may = _KEYS.get(self.mechanism, _KEYS_OF_OWN)
        given = {k for k in type(self).model_fields if getattr(self, k) is not None}
        mistakes = [
            f"{key}: is missing; mechanism {self.mechanism.value!r} needs it, for example "
            f"`{key} = {_EXAMPLES[key]}`"
            for key in needed
            if key not in given
        ]
        mistakes += [
            f"{key}: means nothing to mechanism {self.mechanism.value!r}; remove it"
            for key in (*_EXAMPLES, "budget_all")
            if key in given and key not in (*needed, *may)
        ]
        if self.weight_levels > 1 and self.mechanism is not Mechanism.RANDOMISED_RESPONSE:
            mistakes.append(
                f"weight_levels: means nothing to mechanism {self.mechanism.value!r}; remove it"
            )
        if not mistakes and self.epsilon and self.budget and self.budget < self.epsilon:
            mistakes.append(
                f"budget: {self.budget:g} does not pay for one row at epsilon {self.epsilon:g}; "
                f"write {self.epsilon:g} or more"
            )
        if not mistakes and self.budget_all and self.budget and self.budget_all < self.budget:
            mistakes.append(
                f"budget_all: {self.budget_all:g} for all clients together is less than the "
                f"{self.budget:g} of each; write {self.budget:g} or more, or lower budget"
            )
        refuse(mistakes)
        return self


_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Mechanism.NONE: ((), ()),
    Mechanism.RANDOMISED_RESPONSE: (("epsilon", "budget", "ledger"), ("budget_all",)),
    Mechanism.GAUSSIAN: (("epsilon", "delta", "budget", "ledger"), ("budget_all",)),
    Mechanism.NOISY_MAX: (("epsilon", "budget", "ledger"), ("budget_all",)),
}
"""Which keys a mechanism needs, and which it may have."""

_KEYS_OF_OWN = (("epsilon", "budget", "ledger"), ("delta", "budget_all"))
_EXAMPLES = {"epsilon": "8.0", "delta": "1e-6", "budget": "1000.0", "ledger": '"budget.ledger"'}


class LimitsSection(Settings):
    """`[limits]`: what this process takes on at once; `in_flight` counts queries."""

    in_flight: Annotated[int, Ge(1), Le(100_000)] = 1_000


class HelperSection(Settings):
    """`[helper]`: the file that remembers which set of answers each sum was released for.

    All processes of a helper share it.
    """

    store: _FilePath


class HealthSection(Settings):
    """`[health]`: where this process answers `/livez`, `/readyz` and `/metrics` over HTTP.

    Without a `port` it does not; with port 0 it takes any free one and logs which.
    """

    port: Annotated[int, Ge(0), Le(65_535)] | None = None
    host: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1"


def _named_as_librdkafka(given: object, info: ValidationInfo) -> object:
    if not isinstance(given, Mapping):
        return given
    settings = dict(_flat(given))
    for name, value in settings.items():
        if name.endswith(".location") and isinstance(value, str):
            settings[name] = str(_beside_the_file(Path(value), info))
    return settings


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # TOML reads an unquoted `bootstrap.servers = ...` as nested tables: join the names again.
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


KafkaSettings = Annotated[Mapping[str, object], BeforeValidator(_named_as_librdkafka)]
"""librdkafka's names and values, which the transport judges; paths are resolved here."""


class MemberSettings(Settings):
    """The whole of one `member.toml`; which sections are needed depends on the role."""

    member: OwnSection
    kafka: KafkaSettings = Field(repr=False)
    model: ModelSection | None = None
    helper: HelperSection | None = None
    privacy: PrivacySection | None = None
    limits: LimitsSection = LimitsSection()
    health: HealthSection = HealthSection()
    _directory: Path = Path()

    def model_post_init(self, context: Path | None, /) -> None:
        """Remember where the file was, for what is looked up beside it."""
        self._directory = context or Path()

    @property
    def id(self) -> MemberId:
        """The member's name."""
        return self.member.id

    @property
    def directory(self) -> Path:
        """Where `member.toml` is: a model's module is looked for here first."""
        return self._directory
