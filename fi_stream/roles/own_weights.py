"""What a participant puts into its answers for rules by which it weighs itself.

A forward pass answers queries under any rules at once: those of `tta_*` in all their forms, and
beside each prediction stands the participant's own weight, where the query's rule reads one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fi_stream.aggregation.augmented import INSTABILITY, tta_mean, tta_weights
from fi_stream.aggregation.competence import ENERGY_CAP, Standard, energy, energy_weights
from fi_stream.aggregation.density import sample
from fi_stream.aggregation.evidence import AUGMENTED, DENSITY, ENERGY
from fi_stream.errors import ModelError
from fi_stream.events.refusals import Refusal
from fi_stream.models.batching import predict_each
from fi_stream.models.samples import in_parts, load_samples, some
from fi_stream.roles.features import RowFeatures, bounded
from fi_stream.roles.forms import forms_wanted
from fi_stream.roles.ratios import Ratios

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import Gives, ModelSection
    from fi_stream.models.batching import Predicted
    from fi_stream.models.port import Inputs, Model
    from fi_stream.values import MemberId


_T = TypeVar("_T")


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
        rules = set(federation.policy.rules)
        self._forms = forms_wanted(model, section, self._task) if rules & AUGMENTED else None
        self._held_out: Standard | None = None
        if ENERGY in rules and section.held_out is not None:
            self._held_out = Standard.of(self._energies(section.held_out))
        self._density: tuple[RowFeatures, Ratios] | None = None
        if DENSITY in rules and section.training is not None:
            features = RowFeatures(model, gives, self._task)
            self._density = features, Ratios(self._learnt_from(features, section.training))

    def close(self) -> None:
        """End what learns beside the answers."""
        if self._density is not None:
            self._density[1].close()

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
        dense = iter(self._by_density(queries, seen))
        return [
            forms
            if isinstance(forms, Refusal)
            else next(dense)
            if query.rule == DENSITY
            else self._weighed(query.rule, forms)
            for query, forms in zip(queries, seen, strict=True)
        ]

    def _asked(self, query: Put) -> Sequence[Inputs] | Refusal:
        if self._forms is None or query.rule not in AUGMENTED:
            return [query.inputs]
        return self._forms.of(query.inputs)

    def _weighed(self, rule: str, forms: Sequence[Predicted]) -> Weighed:
        """An answer that nothing but its own forward pass is needed for."""
        if rule in AUGMENTED:
            stack = np.stack([form.probabilities for form in forms])
            own = tta_weights(stack, rule) if rule in INSTABILITY else None
            return Weighed(tta_mean(stack), own)
        if rule == ENERGY and self._held_out is not None:
            found = energy_weights(energy(bounded(forms[0].outputs)), self._held_out)
            return Weighed(forms[0].probabilities, np.minimum(found, ENERGY_CAP))
        return Weighed(forms[0].probabilities, None)

    def _by_density(
        self, queries: Sequence[Put], seen: Sequence[Sequence[Predicted] | Refusal]
    ) -> Iterator[Weighed | Refusal]:
        """Answers to the queries under that rule that the model answered, in their order."""
        if self._density is None:
            return
        features, ratios = self._density
        wanted = [
            (query, forms[0])
            for query, forms in zip(queries, seen, strict=True)
            if query.rule == DENSITY and not isinstance(forms, Refusal)
        ]
        found = features.of([query.inputs for query, _ in wanted], [said for _, said in wanted])
        for (query, said), rows in zip(wanted, found, strict=True):
            if isinstance(rows, Refusal):
                yield rows
            else:
                yield Weighed(said.probabilities, ratios.weights(query.client, rows))

    def _examples(self, path: Path, key: str) -> Iterator[tuple[Inputs, Predicted]]:
        """The examples in a file, some of many, and what the model says of them, part by part."""
        samples = load_samples(path, key, self._task)
        places = sample(np.arange(len(next(iter(samples.values()))), dtype=np.int64))
        for part in in_parts(some(samples, places)):
            [predicted] = predict_each(self._model, [part], len(self._task.classes), self._gives)
            yield part, _usable(predicted, path, key)

    def _energies(self, path: Path) -> NDArray[np.float64]:
        found = [energy(bounded(said.outputs)) for _, said in self._examples(path, "held_out")]
        return np.concatenate(found)

    def _learnt_from(self, features: RowFeatures, path: Path) -> NDArray[np.float64]:
        return np.concatenate(
            [
                _usable(one, path, "training")
                for part, said in self._examples(path, "training")
                for one in features.of([part], [said])
            ]
        )


def _all_of(parts: Sequence[Predicted | Refusal]) -> list[Predicted] | Refusal:
    """All forms of a query, or why the first that failed did."""
    usable = [part for part in parts if not isinstance(part, Refusal)]
    if len(usable) == len(parts):
        return usable
    return next(part for part in parts if isinstance(part, Refusal))


def _usable(found: _T | Refusal, path: Path, key: str) -> _T:
    if isinstance(found, Refusal):
        raise ModelError(
            f"the model cannot answer the examples in {path}, which {key} under [model] names: "
            f"{found.detail} ({found.reason}). Correct the file, or the model."
        )
    return found
