"""`fi-stream keygen NAME`: a member's private keys, and the public card to hand out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keygen(
    name: Annotated[str, typer.Argument(help="The member's name, such as `p1`.")],
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the keys and the card go.")
    ] = Path("keys"),
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Replace keys that are there already.")
    ] = False,
) -> None:
    """Make a member's private keys (DIR/NAME/, mode 0600) and its public card (DIR/NAME.card.toml).

    Each member runs this by itself and hands out the card alone.
    """
    from fi_stream.cli.names import checked_name
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import card_toml
    from fi_stream.sealing.identity import Identity

    checked_name(name, "NAME")
    keys, card_file = directory / name, directory / f"{name}.card.toml"
    if card_file.exists() and not force:
        raise ConfigError(f"{card_file}: is there already; choose another --dir, or use --force")
    identity = Identity.generate(name)
    identity.save(keys, force=force)
    card_file.write_text(f"# Public card of {name}.\n{card_toml(identity.card())}", "utf-8")
    print(f"private keys  {keys}/  keep them to yourself, with a copy apart")
    print(f"public card   {card_file}")
    print(
        "next: give the card to the keeper of federation.toml, to list it under [[members]];\n"
        f'      in your member.toml write `id = "{name}"` and `keys = "{keys.absolute()}"`.'
    )
