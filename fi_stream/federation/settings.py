"""Base of what people write in TOML: frozen, and a key that we do not know is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Settings(BaseModel):
    """Base of configuration values: a misspelt key is refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def refuse(mistakes: Sequence[str]) -> None:
    """Refuse a value for all of `mistakes` at once, each spelt `key: what is wrong; the fix`.

    Raises:
        ValueError: there is at least one; pydantic gathers it, `mistakes.py` splits it again.
    """
    if mistakes:
        raise ValueError("\n".join(mistakes))
