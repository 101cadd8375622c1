"""A participant's model in the demo: trained with torch, served with numpy.

Importing torch takes 1.7 s of a core: five participants that start at once on two cores would
spend 4.9 s on it before the first answer. numpy takes 0.1 s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.models.port import Inputs

INPUT = "image"
"""What the demo's task calls its one input."""

SOURCE = '''"""This participant's model: trained with torch on its own digits, served with numpy."""

from pathlib import Path

from fi_stream.demo.model import Network


def load():
    return Network.load(Path(__file__).with_name("weights.npz"))
'''
"""The `model.py` that stands beside a participant's `weights.npz`; its factory is `model:load`."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A perceptron with one hidden layer of rectified linear units.

    `hidden` is [64, units], `hidden_bias` [units], `output` [units, 10], `output_bias` [10]; all
    float32.
    """

    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    @property
    def version(self) -> str:
        """12 hex digits that change with any weight."""
        made = hashlib.sha256()
        for array in self.arrays().values():
            made.update(array.tobytes())
        return made.hexdigest()[:12]

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Answer the rows of the input `image`: [rows, 64] -> [rows, 10] probabilities."""
        return self.probabilities(inputs[INPUT])

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each picture shows: [rows, 64] -> [rows, 10], each row on the simplex."""
        _, logits = self._layers(images)
        likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
        result: NDArray[np.float32] = likely / likely.sum(axis=-1, keepdims=True)
        return result

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """The hidden layer and the logits of the rows: [rows, 64] -> [rows, units + 10]."""
        return np.hstack(self._layers(inputs[INPUT]))

    def _layers(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        active = np.maximum(images @ self.hidden + self.hidden_bias, 0)
        return active, active @ self.output + self.output_bias

    def save(self, path: Path) -> None:
        """Write the weights as a `.npz` that holds arrays only."""
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays())

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read what `save` wrote; arrays only, nothing is unpickled."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**dict(stored.items()))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name."""
        return {
            "hidden": self.hidden,
            "hidden_bias": self.hidden_bias,
            "output": self.output,
            "output_bias": self.output_bias,
        }
