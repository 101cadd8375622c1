"""Libraries that only some models need, imported when such a model is loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fi_stream.errors import ModelError

if TYPE_CHECKING:
    from types import ModuleType


def extra(module: str, name: str, wanted_by: str) -> ModuleType:
    """Import `module`, which the extra of that name installs.

    Raises:
        ModelError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(
            f"{wanted_by} needs {module}, which cannot be imported here ({error}): "
            f"run `pip install fi-stream[{name}]`."
        ) from error
