"""Each participant of the demo trains a small torch model on its own digits, and it is kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.demo import data, model
from fi_stream.demo.data import CLASSES, PIXELS, Digits, Division, divide, load_digits
from fi_stream.demo.model import Network
from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_UNITS = 64
_EPOCHS = 60
_BATCH = 32
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
# Keeps a model from being sure of classes it has hardly seen.
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What the participants learned, and the digits that nobody trained on.

    `networks` and `training`, the pictures of each, are in the participants' order.
    """

    networks: tuple[Network, ...]
    training: tuple[NDArray[np.float32], ...]
    test: Digits

    @property
    def examples(self) -> tuple[int, ...]:
        """How many digits each was trained on."""
        return tuple(len(images) for images in self.training)


def trained(
    division: Division,
    cache: Path | None = None,
    training: Callable[[int], None] = lambda _: None,
) -> Trained:
    """The participants of this division: read from the cache, or trained now and kept there.

    Args:
        division: how the digits are divided.
        cache: the directory to keep them in; by default `cache_directory()`.
        training: called with a participant's number, from 0, before it trains; never called when
            all came from the cache.

    Raises:
        ConfigError: the cache directory cannot be written.
    """
    kept = (cache or cache_directory()) / f"{_fingerprint(division)}.npz"
    found = _read(kept)
    if found is not None:
        return found
    with _scratch(kept.parent) as scratch:
        parts, test = divide(load_digits(), division)
        networks = []
        for number, part in enumerate(parts):
            training(number)
            networks.append(train(part, seed=division.seed + number))
        made = Trained(tuple(networks), tuple(part.images for part in parts), test)
        # Renamed when whole: a demo that is interrupted or runs beside another leaves no half file.
        whole = scratch / kept.name
        _write(whole, made)
        whole.replace(kept)
    return made


def train(own: Digits, seed: int) -> Network:
    """Train one participant's model on its own digits and nothing else.

    Equal digits and seeds give equal models on one machine; torch's global generator and number of
    threads are as before.
    """
    import torch
    from torch import nn

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = nn.Sequential(
                nn.Linear(PIXELS, _UNITS), nn.ReLU(), nn.Linear(_UNITS, len(CLASSES))
            )
            optimizer = torch.optim.AdamW(
                layers.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
            )
            loss = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
            images, labels = torch.from_numpy(own.images), torch.from_numpy(own.labels)
            for _ in range(_EPOCHS):
                for batch in torch.randperm(len(own)).split(_BATCH):
                    optimizer.zero_grad()
                    loss(layers(images[batch]), labels[batch]).backward()
                    optimizer.step()
    finally:
        torch.set_num_threads(threads)
    weights = [parameter.detach().numpy() for parameter in layers.parameters()]
    return Network(weights[0].T.copy(), weights[1], weights[2].T.copy(), weights[3])


def cache_directory() -> Path:
    """Where trained models are kept: `$XDG_CACHE_HOME/fi-stream/demo`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fi-stream" / "demo"


def _fingerprint(division: Division) -> str:
    """Changes with the division and with the code that divides, trains or stores."""
    made = hashlib.sha256(repr(sorted(asdict(division).items())).encode())
    for source in (data.__file__, model.__file__, __file__):
        made.update(Path(source).read_bytes())
    return made.hexdigest()[:16]


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory below `directory` until the work is done; checked before anybody waits for it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=directory)
    except OSError as error:
        raise ConfigError(
            f"the trained models cannot be kept in {directory}: {error.strerror}. "
            "Set XDG_CACHE_HOME to a directory that you may write."
        ) from error
    with scratch as name:
        yield Path(name)


def _write(file: Path, made: Trained) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "test/images": made.test.images,
        "test/labels": made.test.labels,
    }
    for number, network in enumerate(made.networks):
        arrays |= {f"{number}/{name}": array for name, array in network.arrays().items()}
        arrays[f"{number}/training"] = made.training[number]
    with file.open("wb") as archive:
        np.savez(archive, allow_pickle=False, **arrays)


def _read(file: Path) -> Trained | None:
    """What `_write` wrote, or None when there is nothing that can be read."""
    try:
        # opened here, because numpy leaves a damaged file open
        with file.open("rb") as archive, np.load(archive, allow_pickle=False) as stored:
            count = sum(name.endswith("/training") for name in stored)
            names = ("hidden", "hidden_bias", "output", "output_bias")
            networks = tuple(
                Network(*(stored[f"{number}/{name}"] for name in names)) for number in range(count)
            )
            training = tuple(stored[f"{number}/training"] for number in range(count))
            return Trained(networks, training, Digits(stored["test/images"], stored["test/labels"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
