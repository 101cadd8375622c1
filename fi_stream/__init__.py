"""fi_stream: federated inference as an event stream.

A client: `async with connect("member.toml") as fi: result = await fi.ask(rows, deadline=0.2)`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fi_stream.errors import (
        BrokerError,
        ConfigError,
        FiStreamError,
        ModelError,
        NoResult,
        QueryError,
        SealingError,
        SendRefused,
        SendUnknown,
        TopicError,
    )
    from fi_stream.events.payloads import Outcome
    from fi_stream.roles.client import Client, connect
    from fi_stream.roles.result import Decided, Result

__all__ = [
    "BrokerError",
    "Client",
    "ConfigError",
    "Decided",
    "FiStreamError",
    "ModelError",
    "NoResult",
    "Outcome",
    "QueryError",
    "Result",
    "SealingError",
    "SendRefused",
    "SendUnknown",
    "TopicError",
    "connect",
]

_ELSEWHERE = {
    "Client": "fi_stream.roles.client",
    "Decided": "fi_stream.roles.result",
    "Outcome": "fi_stream.events.payloads",
    "Result": "fi_stream.roles.result",
    "connect": "fi_stream.roles.client",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `fi-stream --help` must stay fast."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_ELSEWHERE.get(name, "fi_stream.errors")), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
