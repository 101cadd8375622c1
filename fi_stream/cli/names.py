"""Names given on the command line."""

from __future__ import annotations

import typer


def checked_name(name: str, option: str) -> str:
    """The name as it is.

    Raises:
        BadParameter: no member or federation can have this name.
    """
    from pydantic import TypeAdapter, ValidationError

    from fi_stream.values import MemberId

    try:
        return TypeAdapter(MemberId).validate_python(name)
    except ValidationError:
        raise typer.BadParameter(
            f"{name!r} cannot be a name: use lower case letters, digits, dots, dashes; "
            "64 at most, no dot or dash at the ends",
            param_hint=option,
        ) from None
