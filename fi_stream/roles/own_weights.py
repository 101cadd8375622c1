"""What a participant puts into its answers for rules by which it weighs itself.

A forward pass answers queries under any rules at once: those of `tta_*` in all their forms, and
beside each prediction stands the participant's own weight, where the query's rule reads one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from fi_stream.aggregation.augmented import INSTABILITY, tta_mean, tta_weights
from fi_stream.aggregation.competence import ENERGY_CAP, Standard, energy, energy_weights
from fi_stream.aggregation.density import sample
from fi_stream.aggregation.evidence import AUGMENTED
from fi_stream.errors import ModelError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.member import Gives
from fi_stream.models.batching import features_each, predict_each
from fi_stream.models.port import features_of
from fi_stream.models.probe import TRIED_ROWS, made_up
from fi_stream.models.samples import in_parts, load_samples, some
from fi_stream.roles.forms import forms_wanted
from fi_stream.roles.ratios import Ratios

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import ModelSection
    from fi_stream.models.batching import Predicted
    from fi_stream.models.port import Inputs, Model
    from fi_stream.values import MemberId

ENERGY: Final = "competence_energy"
DENSITY: Final = "competence_density"

MOST_FEATURES: Final = 512
"""Of a row: what is kept of each client grows with them, and learning with their square."""

_LARGEST = 1e6
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Put:
    """A query as it is put to the model: who asks, by which rule it is decided, its inputs."""

    client: MemberId
    rule: str
    inputs: Inputs = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """A prediction [rows, classes], and its own weights [rows] where the rule reads them."""

    prediction: NDArray[np.float64] = field(repr=False)
    own: NDArray[np.float64] | None = field(repr=False)


class OwnWeights:
    """A participant's model, asked as the rules of the policy want it.

    Args:
        model: the participant's, which fits the task.
        section: of the member's file, which `rules.model_mistakes` has nothing against.
        gives: what the model returns.
        federation: its federation.

    Raises:
        ModelError: the model's forms or features, or a file of examples, are not as they must be.
    """

    def __init__(
        self, model: Model, section: ModelSection, gives: Gives, federation: Federation
    ) -> None:
        self._model = model
        self._gives = gives
        self._task = federation.task
        self._width: int | None = None
        rules = set(federation.policy.rules)
        self._forms = forms_wanted(model, section, self._task) if rules & AUGMENTED else None
        self._held_out: Standard | None = None
        if ENERGY in rules and section.held_out is not None:
            logits = self._sampled(section.held_out, "held_out", logits=True)
            self._held_out = Standard.of(energy(logits))
        self._ratios: Ratios | None = None
        if DENSITY in rules and section.training is not None:
            self._try_features()
            training = self._sampled(section.training, "training", logits=False)
            self._ratios = Ratios(training)

    def close(self) -> None:
        """End what learns beside the answers."""
        if self._ratios is not None:
            self._ratios.close()

    def passed(self, rule: str, rows: int) -> int:
        """How many rows of a forward pass a query of so many takes."""
        return rows * self._forms.number if self._forms and rule in AUGMENTED else rows

    def answer_each(self, queries: Sequence[Put]) -> list[Weighed | Refusal]:
        """Answer every query, in one forward pass if the model stands it.

        Returns:
            For each in order what it is answered, or why the model cannot: the reasons of
            `predict_each`.
        """
        asked = [self._asked(query) for query in queries]
        flat = [one for forms in asked if not isinstance(forms, Refusal) for one in forms]
        said = iter(predict_each(self._model, flat, len(self._task.classes), self._gives))
        seen = [
            forms if isinstance(forms, Refusal) else _all_of([next(said) for _ in forms])
            for forms in asked
        ]
        features = iter(self._features(queries, seen))
        return [
            forms
            if isinstance(forms, Refusal)
            else self._weighed(query, forms, next(features) if query.rule == DENSITY else None)
            for query, forms in zip(queries, seen, strict=True)
        ]

    def _asked(self, query: Put) -> Sequence[Inputs] | Refusal:
        if self._forms is None or query.rule not in AUGMENTED:
            return [query.inputs]
        return self._forms.of(query.inputs)

    def _weighed(
        self,
        query: Put,
        forms: Sequence[Predicted],
        features: NDArray[np.float64] | Refusal | None,
    ) -> Weighed | Refusal:
        if query.rule in AUGMENTED:
            stack = np.stack([form.probabilities for form in forms])
            own = tta_weights(stack, query.rule) if query.rule in INSTABILITY else None
            return Weighed(tta_mean(stack), own)
        prediction, own = forms[0].probabilities, None
        if query.rule == ENERGY and self._held_out is not None:
            found = energy_weights(energy(_bounded(forms[0].outputs)), self._held_out)
            own = np.minimum(found, ENERGY_CAP)
        elif query.rule == DENSITY and self._ratios is not None:
            if isinstance(features, Refusal) or features is None:
                return features or Refusal(Reason.MODEL_FAILED, "no features")
            own = self._ratios.weights(query.client, features)
        return Weighed(prediction, own)

    def _features(
        self, queries: Sequence[Put], seen: Sequence[Sequence[Predicted] | Refusal]
    ) -> list[NDArray[np.float64] | Refusal]:
        """Of the queries that need them and were answered, in their order."""
        wanted = [
            (query, forms[0])
            for query, forms in zip(queries, seen, strict=True)
            if query.rule == DENSITY and not isinstance(forms, Refusal)
        ]
        return self._features_of(
            [query.inputs for query, _ in wanted], [predicted for _, predicted in wanted]
        )

    def _features_of(
        self, inputs: Sequence[Inputs], predicted: Sequence[Predicted]
    ) -> list[NDArray[np.float64] | Refusal]:
        """The model's own features; without them its logits, or logarithms of probabilities."""
        features = features_of(self._model)
        if features is None:
            return [self._plain(one) for one in predicted]
        found = features_each(features, inputs, self._width)
        return [one if isinstance(one, Refusal) else _bounded(one) for one in found]

    def _plain(self, predicted: Predicted) -> NDArray[np.float64]:
        if self._gives is Gives.LOGITS:
            return _bounded(predicted.outputs)
        return np.asarray(np.log(np.maximum(predicted.probabilities, _LEAST)))

    def _sampled(self, path: Path, key: str, *, logits: bool) -> NDArray[np.float64]:
        """The logits or features of the examples in a file, at most `MOST_EXAMPLES` of them."""
        samples = load_samples(path, key, self._task)
        places = sample(np.arange(len(next(iter(samples.values()))), dtype=np.int64))
        found = []
        for part in in_parts(some(samples, places)):
            [predicted] = predict_each(self._model, [part], len(self._task.classes), self._gives)
            if isinstance(predicted, Refusal):
                raise _unusable(path, key, predicted)
            if logits:
                found.append(_bounded(predicted.outputs))
                continue
            [features] = self._features_of([part], [predicted])
            if isinstance(features, Refusal):
                raise _unusable(path, key, features)
            self._width = features.shape[1]
            found.append(features)
        return np.concatenate(found)

    def _try_features(self) -> None:
        """Before any query: of one row, of several, and not more than can be learnt from."""
        features = features_of(self._model)
        if features is None:
            return
        for rows in TRIED_ROWS:
            try:
                features(made_up(self._task, rows))
            except Exception as error:
                raise ModelError(
                    f"the model's `features` raised {type(error).__name__} on a trial with {rows} "
                    f"made-up row(s): {error}"
                ) from error
            [found] = features_each(features, [made_up(self._task, rows)], self._width)
            if isinstance(found, Refusal):
                raise ModelError(
                    f"the model's `features`, on a trial with {rows} made-up row(s): "
                    f"{found.detail} ({found.reason}). It must give [rows, features], always "
                    "equally many."
                )
            self._width = found.shape[1]
        if not 1 <= (self._width or 0) <= MOST_FEATURES:
            raise ModelError(
                f"the model's `features` gives {self._width} numbers a row, and 1 to "
                f"{MOST_FEATURES} can be learnt from: leave some layers out, or project them."
            )


def _all_of(parts: Sequence[Predicted | Refusal]) -> list[Predicted] | Refusal:
    """All forms of a query, or why the first that failed did."""
    usable = [part for part in parts if not isinstance(part, Refusal)]
    if len(usable) == len(parts):
        return usable
    return next(part for part in parts if isinstance(part, Refusal))


def _bounded(numbers: NDArray[np.generic]) -> NDArray[np.float64]:
    """So that none is too large to be squared."""
    return np.clip(numbers.astype(np.float64), -_LARGEST, _LARGEST)


def _unusable(path: Path, key: str, refusal: Refusal) -> ModelError:
    return ModelError(
        f"the model cannot answer the examples in {path}, which {key} under [model] names: "
        f"{refusal.detail} ({refusal.reason}). Correct the file, or the model."
    )
