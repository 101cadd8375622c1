"""What somebody names as "module:callable": their own rule, mechanism or attack."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def is_own(name: str) -> bool:
    """Whether this names something of somebody's own: our names have no colon."""
    return ":" in name


def imported(kind: str, reference: str, where: str, wanted: str) -> Callable[..., Any]:
    """Import the module and take the callable.

    Args:
        kind: what it is, for people: "rule".
        reference: "module:callable".
        where: it is to be installed.
        wanted: how it is to be defined, of the name `{name}`.

    Raises:
        ConfigError: the module cannot be imported, or has no such callable.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # somebody's own code may raise anything
        raise ConfigError(
            f"{kind} {reference!r}: module {module_name!r} cannot be imported: "
            f"{type(error).__name__}: {error}. Install it {where}."
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(
            f"{kind} {reference!r}: {module_name!r} has no function {name!r}. Define "
            f"{wanted.format(name=name)}."
        )
    taken: Callable[..., Any] = found
    return taken
