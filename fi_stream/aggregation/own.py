"""A rule of a federation's own, named "module:function"."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fi_stream.aggregation.contract import broken_laws
from fi_stream.errors import ConfigError
from fi_stream.federation.references import imported

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.aggregation.stacks import Scores, Stack

_WANTED = (
    "`def {name}(predictions): ...` there, from [participants, rows, classes] to [rows, classes]"
)


@cache
def own_rule(reference: str) -> Callable[[Stack], Scores]:
    """Import the module and take the function, once it is shown to keep the laws.

    Raises:
        ConfigError: the module cannot be imported, has no such function, or it breaks a law.
    """
    rule: Callable[[Stack], Scores] = imported(
        "rule", reference, "where the rule is decided", _WANTED
    )
    try:
        broken = broken_laws(rule)
    except Exception as error:  # a federation's own code may raise anything
        raise ConfigError(
            f"rule {reference!r} fails: {type(error).__name__}: {error}. Try it with "
            "`fi_stream.aggregation.contract.broken_laws`."
        ) from error
    if broken:
        raise ConfigError(f"rule {reference!r} cannot be used: {'; '.join(broken)}.")
    return rule
