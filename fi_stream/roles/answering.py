"""What a participant does with the queries of one poll, off the event loop.

One forward pass for all; then for each query: check the prediction, charge, noise (DESIGN 10).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Answer
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import to_tensor
from fi_stream.federation.member import Gives, Mechanism
from fi_stream.federation.policy import Protection
from fi_stream.models.batching import predict_each
from fi_stream.models.loading import load
from fi_stream.models.port import Source
from fi_stream.models.probe import probe
from fi_stream.models.sharded import Sharded
from fi_stream.models.threads import available_threads, use_threads
from fi_stream.privacy.budget import Budget
from fi_stream.privacy.building import build
from fi_stream.privacy.compatibility import refuse_privacy
from fi_stream.roles.parting import Parted, Parting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings, ModelSection, PrivacySection
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.privacy.mechanisms import NoiseMechanism
    from fi_stream.sealing.gate import Verified

BLOCK_ROWS = 1000
"""Rows paid for ahead, so that the budget's file is not written for each answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that deserves a response: its inputs by name, or why they cannot be used."""

    event: Verified
    inputs: dict[str, NDArray[np.generic]] | Refusal


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
        model, privacy = _sections(settings, federation)
        threads = available_threads(model.threads)
        use_threads(threads)
        self._classes = len(federation.task.classes)
        loaded = load(_source(model), federation.task, settings.directory, threads.count)
        voting = privacy.mechanism is Mechanism.NOISY_MAX
        voters = Sharded(loaded, model.gives, self._classes) if voting else None
        self._model = voters or loaded
        self._gives = Gives.PROBABILITIES if voters else model.gives
        probe(self._model, federation.task, self._gives)
        models = voters.models if voters else 1
        self._noise = build(privacy, federation.policy.form, self._classes, models, source)
        self._budget = _budget(privacy, self._noise)
        self._parting: Parting | None = None
        if Protection.SECAGG in federation.policy.protections:
            self._parting = Parting(settings.id, federation, privacy, (self._budget, source))
        self._resources = ExitStack()
        self._facts = {"model": self._model.version, "threads": str(threads)}

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
        """The model's."""
        return self._model.version

    def facts(self) -> dict[str, str]:
        """What to print at start."""
        return self._facts

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Parted | Refusal]:
        """An answer to each query, or the reason for abstaining."""
        usable = [query.inputs for query in asked if not isinstance(query.inputs, Refusal)]
        predictions = iter(predict_each(self._model, usable, self._classes, self._gives))
        return [
            query.inputs
            if isinstance(query.inputs, Refusal)
            else self._release(query.event, next(predictions))
            for query in asked
        ]

    def _release(
        self, event: Verified, prediction: NDArray[np.float64] | Refusal
    ) -> Answer | Parted | Refusal:
        """Charge, then noise: in this order, so that a crash never gives an answer for nothing."""
        if isinstance(prediction, Refusal):
            return prediction
        if event.header.ask.protection == Protection.SECAGG and self._parting is not None:
            return self._parting.part(event, prediction)
        client = event.header.sender
        rows, noise = len(prediction), None
        if self._budget is not None and self._noise.cost is not None:
            try:
                spent = self._budget.spend(client, self._noise.cost.times(rows))
            except ConfigError as error:
                # The ledger cannot be written now: nothing is given that is not on record.
                return Refusal(Reason.OVERLOADED, str(error))
            if isinstance(spent, Refusal):
                return spent
            noise = self._noise.declare(rows, spent.total)
        released = self._noise.release(prediction)
        tensor = to_tensor(released.form.value, released.values)
        if isinstance(tensor, Refusal):
            return tensor
        return Answer(
            form=released.form.value, outputs=(tensor,), scale=released.scale, noise=noise
        )


def _sections(
    settings: MemberSettings, federation: Federation
) -> tuple[ModelSection, PrivacySection]:
    if settings.model is None or settings.privacy is None:
        missing = "model" if settings.model is None else "privacy"
        raise ConfigError(
            f"{settings.directory / 'member.toml'}: a participant needs a [{missing}] section; "
            "`fi-stream init DIR` writes an example."
        )
    refusal = refuse_privacy(federation.policy, settings.privacy)
    if refusal is not None:
        raise ConfigError(f"[privacy] of {settings.id} and the policy of the federation: {refusal}")
    return settings.model, settings.privacy


def _source(model: ModelSection) -> Source:
    return Source(
        factory=model.factory,
        onnx=model.onnx,
        exported=model.exported,
        sha256=model.sha256,
        device=model.device,
        version=model.version,
    )


def _budget(privacy: PrivacySection, noise: NoiseMechanism) -> Budget | None:
    if noise.cost is None or privacy.budget is None or privacy.ledger is None:
        return None
    limit = noise.limit(privacy.budget)
    return None if limit is None else Budget(privacy.ledger, limit, noise.cost.times(BLOCK_ROWS))
