"""What a participant does with the queries of one poll, off the event loop.

One forward pass for all; then for each query: check the prediction, charge, noise (DESIGN 10).
"""

from __future__ import annotations

import hmac
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.evidence import OWN
from fi_stream.errors import ConfigError, ModelError
from fi_stream.events.payloads import WEIGHT, Answer
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import to_tensor
from fi_stream.federation.member import Gives, Mechanism
from fi_stream.federation.policy import Protection
from fi_stream.models.loading import load
from fi_stream.models.port import Source
from fi_stream.models.probe import probe
from fi_stream.models.sharded import Sharded
from fi_stream.models.threads import available_threads, use_threads
from fi_stream.privacy.stand_in import stand_in
from fi_stream.roles.accounts import mechanism_of, privacy_of, terms_of
from fi_stream.roles.own_weights import OwnWeights, Put, Weighed
from fi_stream.roles.parting import Parted, Parting
from fi_stream.roles.rules import model_mistakes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings, ModelSection
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.sealing.gate import Verified

UNNAMED = "unnamed"
"""The version of a model of which nothing may be told."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that deserves a response: its inputs by name, or why they cannot be used."""

    event: Verified
    inputs: dict[str, NDArray[np.generic]] | Refusal = field(repr=False)


class Answering:
    """A participant's model, noise and budget; a context manager, for the budget's file.

    Args:
        settings: the member's.
        federation: its federation.
        source: of the noise; without one it is drawn here.

    Raises:
        ConfigError: `[model]` or `[privacy]` is missing or does not go with the policy.
        ModelError: the model cannot be loaded, or does not fit the task.
    """

    def __init__(
        self, settings: MemberSettings, federation: Federation, source: NoiseSource | None = None
    ) -> None:
        model, privacy = _model(settings, federation), privacy_of(settings, federation)
        threads = available_threads(model.threads)
        use_threads(threads)
        self._classes = len(federation.task.classes)
        loaded = load(_source(model), federation.task, settings.directory, threads.count)
        voting = privacy.mechanism is Mechanism.NOISY_MAX
        voters = Sharded(loaded, model.gives, self._classes) if voting else None
        self._model = voters or loaded
        self._gives = Gives.PROBABILITIES if voters else model.gives
        probe(self._model, federation.task, self._gives)
        self._weights = OwnWeights(self._model, model, self._gives, federation)
        models = voters.models if voters else 1
        self._noise = mechanism_of(privacy, federation, models, source)
        # Against somebody there is noise, here or at the aggregator: the model's faults are in it.
        self._hides = self._noise.cost is not None or federation.policy.noisy_max is not None
        terms = terms_of(privacy, self._noise)
        self._budget = None if terms is None else terms.open()
        self._faults: list[Refusal] = []
        self._parting: Parting | None = None
        if Protection.SECAGG in federation.policy.protections:
            self._parting = Parting(settings.id, federation, privacy, (self._budget, source))
        self._resources = ExitStack()
        self._resources.callback(self._weights.close)
        self._version = self._named(model)
        self._facts = {"model": self._version, "threads": str(threads)}

    def __enter__(self) -> Self:
        if self._budget is not None:
            self._resources.enter_context(self._budget)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def version(self) -> str:
        """The model's, as it travels in the clear header of each response."""
        return self._version

    def facts(self) -> dict[str, str]:
        """What to print at start."""
        return self._facts

    def rows(self, query: Asked) -> int:
        """How many rows it adds to the forward pass: none when its inputs cannot be used."""
        if isinstance(query.inputs, Refusal):
            return 0
        ask = query.event.header.ask
        return self._weights.passed(ask.rule, ask.rows)

    def take_faults(self) -> list[Refusal]:
        """Why predictions since the last call could not be used, and stand-ins were noised."""
        faults, self._faults = self._faults, []
        return faults

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Parted | Refusal]:
        """An answer to each query, or the reason for abstaining.

        Under noise no reason depends on the model: what it cannot answer is noised all the same.
        """
        usable = [
            Put(query.event.header.sender, query.event.header.ask.rule, query.inputs)
            for query in asked
            if not isinstance(query.inputs, Refusal)
        ]
        predictions = iter(self._weights.answer_each(usable))
        with self._budget.at_once() if self._budget is not None else nullcontext():
            return [
                query.inputs
                if isinstance(query.inputs, Refusal)
                else self._release(query.event, next(predictions))
                for query in asked
            ]

    def _named(self, model: ModelSection) -> str:
        """The version that its owner gave, else a digest that says when the model changes.

        Under noise it is one that only says this: the digest of a file tells which file it is. A
        participant whose noise the aggregator adds keeps no salt for one, and says nothing.
        """
        version = self._model.version
        if model.version is not None or not self._hides:
            return version
        if self._budget is None:
            return UNNAMED
        return hmac.digest(self._budget.salt(), version.encode(), "sha256").hex()[:12]

    def _release(self, query: Verified, made: Weighed | Refusal) -> Answer | Parted | Refusal:
        """Charge, then noise: in this order, so that a crash never gives an answer for nothing."""
        ask, noise = query.header.ask, None
        if isinstance(made, Refusal):
            if not self._hides:
                return made
            self._faults.append(made)
            own = np.ones(ask.rows) if ask.rule in OWN else None
            made = Weighed(stand_in(ask.rows, self._classes, query.digest), own)
        if ask.protection == Protection.SECAGG and self._parting is not None:
            return self._parting.part(query, made.prediction, made.own)
        if self._budget is not None and self._noise.cost is not None:
            try:
                spent = self._budget.spend(query.header.sender, self._noise.cost.times(ask.rows))
            except ConfigError as error:
                # The ledger cannot be written now: nothing is given that is not on record.
                return Refusal(Reason.OVERLOADED, str(error))
            if isinstance(spent, Refusal):
                return spent
            noise = self._noise.declare(ask.rows, spent.total)
        try:
            released = self._noise.release(made.prediction)
        except ModelError as error:  # of a mechanism of the participant's own, and charged
            return Refusal(Reason.MODEL_FAILED, str(error))
        named = [(released.form.value, released.values)]
        if made.own is not None and self._noise.cost is None:  # never exact beside what is noised
            named.append((WEIGHT, made.own))
        outputs = [to_tensor(name, values) for name, values in named]
        tensors = tuple(one for one in outputs if not isinstance(one, Refusal))
        if len(tensors) < len(outputs):
            return next(one for one in outputs if isinstance(one, Refusal))
        return Answer(form=released.form.value, outputs=tensors, scale=released.scale, noise=noise)


def _model(settings: MemberSettings, federation: Federation) -> ModelSection:
    if settings.model is None:
        raise ConfigError(
            f"{settings.directory / 'member.toml'}: a participant needs a [model] section; "
            "`fi-stream init DIR` writes an example."
        )
    for key, why in model_mistakes(federation, settings.model):
        raise ConfigError(f"{settings.directory / 'member.toml'}: {key} under [model]: {why}")
    return settings.model


def _source(model: ModelSection) -> Source:
    return Source(
        factory=model.factory,
        onnx=model.onnx,
        exported=model.exported,
        sha256=model.sha256,
        device=model.device,
        version=model.version,
    )
