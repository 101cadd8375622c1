"""Test-time augmentation: a participant asks its model several forms of a query at once.

The rules `tta_*` sum the mean prediction over the forms, weighed by how little it depended on the
form. A participant computes both, and they travel inside its answer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Instability = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_SMALLEST = 2.0**-1022


def rotations(images: NDArray[Any], degrees: tuple[int, ...] = (0, 90, 180, 270)) -> NDArray[Any]:
    """Square images turned by quarter turns: [rows, side, side, ...] to [forms, rows, ...].

    For what looks the same whichever way is up; other data needs the model's own forms.
    """
    return np.stack([np.rot90(images, k=turn // 90, axes=(1, 2)) for turn in degrees])


def tta_mean(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the forms of a query: [forms, rows, classes] to [rows, classes].

    Source: FedSEI (arXiv 2603.02214), test-time augmentation.
    """
    return np.asarray(predictions.mean(axis=0))


def tta_weights(predictions: NDArray[np.float64], rule: str) -> NDArray[np.float64]:
    """W = exp(-instability), the mean distance of the forms' predictions to their mean.

    Args:
        predictions: [forms, rows, classes], on the simplex.
        rule: a name of `INSTABILITY`: which distance.

    Returns:
        [rows] in (0, 1]; 1 where the form changes nothing.

    Source: FedSEI (arXiv 2603.02214), instability weights, which names the four distances; that the
    weight falls exponentially, as that of entropy does, is ours.
    """
    return np.asarray(np.exp(-INSTABILITY[rule](predictions)))


def _l2(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of |p - m|."""
    return np.asarray(np.linalg.norm(predictions - tta_mean(predictions), axis=-1).mean(axis=0))


def _cosine(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of 1 - cos(p, m)."""
    mean = tta_mean(predictions)
    lengths = np.linalg.norm(predictions, axis=-1) * np.linalg.norm(mean, axis=-1)
    return np.asarray(np.maximum(1 - (predictions * mean).sum(axis=-1) / lengths, 0).mean(axis=0))


def _kl(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of KL(p, m), the generalised Jensen-Shannon divergence of the forms."""
    return np.asarray(_divergence(predictions, tta_mean(predictions)).mean(axis=0))


def _js(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of JS(p, m) = (KL(p, h) + KL(m, h)) / 2 with h between the two."""
    mean = tta_mean(predictions)
    half = (predictions + mean) / 2
    both = _divergence(predictions, half) + _divergence(np.broadcast_to(mean, half.shape), half)
    return np.asarray((both / 2).mean(axis=0))


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(p, q) over the last axis, with 0 log 0 = 0."""
    terms = p * (np.log(np.maximum(p, _SMALLEST)) - np.log(np.maximum(q, _SMALLEST)))
    return np.asarray(np.maximum(terms.sum(axis=-1), 0.0))


INSTABILITY: MappingProxyType[str, Instability] = MappingProxyType(
    {"tta_l2": _l2, "tta_cosine": _cosine, "tta_kl": _kl, "tta_js": _js}
)
"""The distances by which `tta_*` tells how much a prediction depends on the form."""
