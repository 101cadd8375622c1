"""The one job that all pipelines do: three participants say what class a row of 64 numbers is.

The models are linear and tiny, so that the pipelines are what is measured. They agree on every row
that is asked, so each result has one right label, also where the answers carry noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PARTICIPANTS = 3
NUMBERS = 64
"""In a row: 256 bytes of FP32."""

CLASSES = 10
ROWS = 512
"""Different rows that are asked, one after another, over and over."""

SHARDS = 10
"""Models of a participant, where they vote."""

_SHARPNESS = 0.5
_DIFFERENCE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A participant's model; as fi_stream calls it, and as a plain function."""

    weights: NDArray[np.float32]

    def predict(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Logits [rows, classes] of the input `numbers`."""
        return inputs["numbers"] @ self.weights

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the model says: [rows, classes], each row on the simplex."""
        logits = (rows @ self.weights).astype(np.float64)
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        said: NDArray[np.float64] = grown / grown.sum(axis=1, keepdims=True)
        return said


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """Several models of one participant, `weights` [SHARDS, NUMBERS, CLASSES]."""

    weights: NDArray[np.float32]

    def predict(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Logits [SHARDS, rows, classes] of the input `numbers`."""
        said: NDArray[np.float32] = inputs["numbers"] @ self.weights
        return said


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Rows to ask, FP32 [ROWS, NUMBERS], and the right label of each."""

    rows: NDArray[np.float32]
    labels: tuple[int, ...]


def model(number: int) -> Linear:
    """The model of participant 1, 2 or 3: the same idea, seen a little differently."""
    common = np.random.default_rng(0).normal(size=(NUMBERS, CLASSES))
    own = np.random.default_rng(number).normal(size=(NUMBERS, CLASSES))
    return Linear((_SHARPNESS * (common + _DIFFERENCE * own)).astype(np.float32))


def shards(number: int) -> Shards:
    """The same model, as if each part of its data had taught it nearly the same."""
    noise = np.random.default_rng(100 + number).normal(size=(SHARDS, NUMBERS, CLASSES))
    return Shards((model(number).weights + 0.02 * noise).astype(np.float32))


@cache
def questions() -> Questions:
    """The rows on which all participants agree, of many that were drawn."""
    drawn = np.random.default_rng(99).normal(size=(8 * ROWS, NUMBERS)).astype(np.float32)
    said = np.stack(
        [model(number).probabilities(drawn).argmax(axis=1) for number in participants()]
    )
    agreed = np.flatnonzero((said == said[0]).all(axis=0))[:ROWS]
    return Questions(drawn[agreed], tuple(said[0, agreed].tolist()))


def participants() -> range:
    """Their numbers."""
    return range(1, PARTICIPANTS + 1)


def query_key(token: int) -> bytes:
    """A query's id in the pipelines that are not ours: 16 bytes, as in fi_stream."""
    return token.to_bytes(16, "big")


def token_of(key: bytes) -> int:
    """The other way round."""
    return int.from_bytes(key, "big")
