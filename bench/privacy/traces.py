"""What participants predicted on a test set: traces of a folder, or made now (DESIGN 15)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.errors import ConfigError
from fi_stream.models.prediction import softmax

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ALPHAS, SEEDS = (0.1, 0.5), (0, 1)
"""How the digits are divided when there is no trace to read."""

SHARDS = 10
"""Models of each participant that vote, each trained on its own part of the participant's data."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """`probabilities` [participants, rows, classes], each row on the simplex; `labels` [rows].

    `shares`, of the same shape, is how many of a participant's models vote for a class, where it
    has several.
    """

    name: str
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    shares: NDArray[np.float64] | None = None

    @property
    def group(self) -> str:
        """The name without its seed: traces that differ in nothing else are averaged."""
        stem, _, seed = self.name.rpartition("_s")
        return stem if seed.isdigit() else self.name

    def at(self, rows: NDArray[np.int64]) -> Trace:
        """These rows, in this order; a row may come more than once."""
        shares = None if self.shares is None else self.shares[:, rows]
        return Trace(self.name, self.probabilities[:, rows], self.labels[rows], shares)


def read_traces(folder: Path) -> list[Trace]:
    """All traces of a folder, by name.

    Raises:
        ConfigError: there is none, or one is not as DESIGN 15 says.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ConfigError(
            f"no *.npz in {folder}: give a folder of traces, or leave --traces out to train on "
            "digits."
        )
    return [_read(file) for file in files]


def trained_traces() -> list[Trace]:
    """Traces of the demo's participants on digits, trained now; the whole models may be kept ones.

    Beside its own model each participant has `SHARDS` on disjoint parts of its digits.
    """
    # here, because torch and scikit-learn are needed for nothing else
    from fi_stream.demo.data import Division, divide, load_digits  # noqa: PLC0415
    from fi_stream.demo.training import train, trained  # noqa: PLC0415

    traces = []
    for alpha in ALPHAS:
        for seed in SEEDS:
            division = Division(alpha=alpha, seed=seed)
            made = trained(division)
            said = [network.probabilities(made.test.images) for network in made.networks]
            shares = []
            for own in divide(load_digits(), division)[0]:
                shards = [own.at(part) for part in np.array_split(np.arange(len(own)), SHARDS)]
                models = [train(shard, seed) for shard in shards]
                best = [one.probabilities(made.test.images).argmax(axis=1) for one in models]
                votes = np.equal(np.stack(best)[:, :, np.newaxis], np.arange(said[0].shape[1]))
                shares.append(votes.mean(axis=0))
            name = f"digits_K{len(said)}_a{alpha:g}_s{seed}"
            together = np.stack(said).astype(np.float64)
            traces.append(Trace(name, together, made.test.labels, np.stack(shares)))
    return traces


def _read(file: Path) -> Trace:
    try:
        # opened here, because numpy leaves a damaged file open
        with file.open("rb") as archive, np.load(archive, allow_pickle=False) as stored:
            logits = stored["logits"].astype(np.float64)
            labels = stored["labels"].astype(np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} is not a trace: {error}. Correct or remove it.") from error
    fits = logits.ndim == 3 and labels.shape == logits.shape[1:2] and len(labels) > 0
    if not fits or not np.isfinite(logits).all():
        raise ConfigError(
            f"{file} is not a trace: logits {list(logits.shape)} and labels {list(labels.shape)}; "
            "finite logits [participants, rows, classes] and labels [rows] are wanted."
        )
    flat = softmax(logits.reshape(-1, logits.shape[2]))
    return Trace(file.stem, flat.reshape(logits.shape), labels)
