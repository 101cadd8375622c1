"""A model file's bytes, and the version that they give."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fi_stream.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> bytes:
    """The whole file.

    Raises:
        ModelError: it is not there, or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the model {path} cannot be read ({error.strerror or error}): correct the path under "
            "[model]; a relative one starts at the directory of member.toml."
        ) from error


def short_hash(content: bytes) -> str:
    """A model's version when its owner gives none: 12 hex digits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]
