"""Several models on disjoint parts of one participant's data, which vote behind the port.

One example is in one part, so another example changes one model and one vote: that is what lets
noise on the votes protect an example far better than the participant's whole answer (PATE,
Papernot et al. 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fi_stream.models.prediction import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fi_stream.federation.member import Gives
    from fi_stream.models.port import Inputs, Model


class Sharded:
    """Models that answer together: the share of their votes for each class.

    Args:
        model: returns [models, rows, classes] for its rows, always equally many models.
        gives: probabilities or logits.
        classes: of the task.
    """

    def __init__(self, model: Model, gives: Gives, classes: int) -> None:
        self._model = model
        self._gives = gives
        self._classes = classes
        self.models = 0

    @property
    def version(self) -> str:
        """That of the models together."""
        return self._model.version

    def predict(self, inputs: Inputs) -> NDArray[np.float64]:
        """Shares of the votes, [rows, classes]: multiples of 1 / models.

        What a model says that is no prediction is a vote for a class by the place of the row: one
        example may be what makes its model fail, and may change no more than one vote.

        Raises:
            ValueError: the shape is not [models, rows, classes], two models or more, as many as
                before.
        """
        said = np.asarray(self._model.predict(inputs))
        if said.dtype.kind not in "fiub" or said.ndim != 3 or said.shape[2] != self._classes:
            raise ValueError(
                f"it returned {said.dtype} {list(said.shape)}; with mechanism 'noisy_max' it must "
                f"return numbers [models, rows, {self._classes}]"
            )
        models, rows, _ = said.shape
        if models < 2 or self.models not in (0, models):
            raise ValueError(
                f"{models} models answered, and {self.models or 'at least 2'} are wanted"
            )
        self.models = models
        checked = check(said.reshape(models * rows, self._classes), self._gives)
        usable = (checked.finite & checked.on_simplex).reshape(models, rows)
        said_labels = checked.probabilities.argmax(axis=1).reshape(models, rows)
        labels = np.where(usable, said_labels, np.arange(rows) % self._classes)
        votes = np.equal(labels[:, :, np.newaxis], np.arange(self._classes)).sum(axis=0)
        shares: NDArray[np.float64] = votes / models
        return shares
