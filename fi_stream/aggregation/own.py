"""A rule of a federation's own, named "module:function"."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from fi_stream.aggregation.contract import broken_laws
from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.aggregation.stacks import Scores, Stack


def is_own(name: str) -> bool:
    """Whether this names a rule of somebody's own: ours have no colon."""
    return ":" in name


@cache
def own_rule(reference: str) -> Callable[[Stack], Scores]:
    """Import the module and take the function, once it is shown to keep the laws.

    Raises:
        ConfigError: the module cannot be imported, has no such function, or it breaks a law.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a federation's own code may raise anything
        raise ConfigError(
            f"rule {reference!r}: module {module_name!r} cannot be imported: "
            f"{type(error).__name__}: {error}. Install it where the rule is decided."
        ) from error
    rule = getattr(module, name, None)
    if not callable(rule):
        raise ConfigError(
            f"rule {reference!r}: {module_name!r} has no function {name!r}. Define "
            f"`def {name}(predictions): ...` there, from [participants, rows, classes] to "
            "[rows, classes]."
        )
    try:
        broken = broken_laws(rule)
    except Exception as error:  # as above
        raise ConfigError(
            f"rule {reference!r} fails: {type(error).__name__}: {error}. Try it with "
            "`fi_stream.aggregation.contract.broken_laws`."
        ) from error
    if broken:
        raise ConfigError(f"rule {reference!r} cannot be used: {'; '.join(broken)}.")
    found: Callable[[Stack], Scores] = rule
    return found
