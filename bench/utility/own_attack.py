"""An attack of somebody's own, named "module:function"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.utility.contract import broken_laws, why_not_an_answer
from bench.utility.deciding import probabilities
from fi_stream.errors import ConfigError
from fi_stream.federation.references import imported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.utility.contract import Attack, OwnAttack

_LEAST = 1e-13
_WANTED = (
    "`def {name}(own, others): ...` there, from [rows, classes] and [others, rows, classes] to "
    "[rows, classes]"
)


def own_attack(reference: str) -> Attack:
    """Import the module and take the function, once it is shown to keep the laws.

    Returns:
        The attack on logits; it raises ConfigError for what is no prediction.

    Raises:
        ConfigError: the module cannot be imported, has no such function, or it breaks a law.
    """
    attack: OwnAttack = imported("attack", reference, "where the bench runs", _WANTED)
    try:
        broken = broken_laws(attack)
    except Exception as error:  # somebody's own code may raise anything
        raise ConfigError(
            f"attack {reference!r} fails: {type(error).__name__}: {error}. Try it with "
            "`bench.utility.contract.broken_laws`."
        ) from error
    if broken:
        raise ConfigError(f"attack {reference!r} cannot be used: {'; '.join(broken)}.")

    def in_logits(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
        said = attack(probabilities(own), probabilities(others))
        why = why_not_an_answer(said, *own.shape)
        if why is not None:
            raise ConfigError(f"attack {reference!r}: {why}.")
        return np.asarray(np.log(np.maximum(said, _LEAST)))

    return in_logits
