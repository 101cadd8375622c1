"""The demo's data: scikit-learn's handwritten digits, split unevenly among the participants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.demo.model import INPUT
from fi_stream.errors import ConfigError
from fi_stream.events.tensors import Datatype
from fi_stream.federation.task import Task, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES = tuple(str(digit) for digit in range(10))
PIXELS = 64

_TEST_ROWS = 450
_BRIGHTEST = 16


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """Pictures and what they show: `images` [rows, 64] float32 in [0, 1], `labels` [rows] int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: NDArray[np.int64]) -> Digits:
        """The digits in these rows, in this order."""
        return Digits(self.images[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Division:
    """How the digits are divided; equal values divide alike.

    `alpha` is the concentration of the Dirichlet distribution that divides each class: 0.1 gives
    every participant mostly a few classes of its own, 100 gives all of them nearly the same.
    """

    participants: int = 5
    alpha: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.participants <= 100:
            raise ConfigError(
                f"{self.participants} participants: the digits divide among 1 to 100. "
                "Set --participants in that range."
            )
        if not 0.01 <= self.alpha <= 1e6:
            raise ConfigError(
                f"alpha {self.alpha:g}: must be from 0.01 (each has its own classes) "
                "to 1000000 (all have the same). Set --alpha in that range."
            )


def task(output: str = "probabilities") -> Task:
    """What the demo's federations answer: which digit a picture of 64 pixels shows.

    Another name of the output makes another task: what one federation sends, no other takes in.
    """
    image = TensorSpec(name=INPUT, datatype=Datatype.FP32, shape=(PIXELS,))
    return Task(kind="multiclass", classes=CLASSES, inputs=(image,), output=output)


def load_digits() -> Digits:
    """All 1,797 digits, in scikit-learn's order."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = (bunch.data / _BRIGHTEST).astype(np.float32)
    return Digits(images, bunch.target.astype(np.int64))


def divide(digits: Digits, division: Division) -> tuple[tuple[Digits, ...], Digits]:
    """Set test digits aside and divide the rest.

    Returns:
        Each participant's own training digits, none of them empty, and the test digits, which
        nobody trains on. Together they are all the digits, each once.
    """
    rng = np.random.default_rng(division.seed)
    order = rng.permutation(len(digits))
    held_out = min(_TEST_ROWS, len(digits) // 4)
    test, training = order[:held_out], order[held_out:]
    shares: list[list[int]] = [[] for _ in range(division.participants)]
    for label in np.unique(digits.labels):
        rows = training[digits.labels[training] == label]
        sizes = rng.dirichlet([division.alpha] * division.participants)
        cuts = np.rint(np.cumsum(sizes)[:-1] * len(rows)).astype(np.int64)
        for share, part in zip(shares, np.split(rows, cuts), strict=True):
            share.extend(part.tolist())
    for share in shares:
        rng.shuffle(share)
    _lift_the_smallest(shares, fewest=max(1, len(training) // (10 * division.participants)))
    return tuple(digits.at(np.array(share)) for share in shares), digits.at(test)


def queries(test: Digits, count: int) -> Digits:
    """The first `count` test digits, beginning again when there are fewer."""
    return test.at(np.arange(count) % len(test))


def _lift_the_smallest(shares: list[list[int]], fewest: int) -> None:
    """Move rows from the largest share until each has `fewest`."""
    for share in shares:
        while len(share) < fewest:
            share.append(max(shares, key=len).pop())
