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
    following: Annotated[
        bool, typer.Option("--next", help="Beside keys in use, for a later version of the roster.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace keys that are there already.")
    ] = False,
) -> None:
    """Make a member's private keys (DIR/NAME/, mode 0600) and its public card (DIR/NAME.card.toml).

    Each member runs this by itself and hands out the card alone. With --next the keys go to
    DIR/NAME/next/ and the card is DIR/NAME.next.card.toml; a process that runs takes them up when
    the roster lists them.
    """
    from fi_stream.cli.names import checked_name
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import card_toml
    from fi_stream.sealing.identity import NEXT, Identity

    checked_name(name, "NAME")
    keys, card_file = directory / name, directory / f"{name}.card.toml"
    if following:
        Identity.load(keys)  # there must be some that are followed
        keys, card_file = keys / NEXT, directory / f"{name}.{NEXT}.card.toml"
    if card_file.exists() and not force:
        raise ConfigError(f"{card_file}: is there already; choose another --dir, or use --force")
    identity = Identity.generate(name)
    identity.save(keys, force=force)
    card_file.write_text(f"# Public card of {name}.\n{card_toml(identity.card())}", "utf-8")
    print(f"private keys  {keys}/  keep them to yourself, with a copy apart")
    print(f"public card   {card_file}")
    if following:
        print(
            f"next: give the card to the keeper, for `fi-stream roster rotate`; once {keys}/ is in"
        )
        print(f"      effect move its files to {keys.parent}/.")
        return
    print(
        "next: give the card to the keeper of federation.toml, to list it under [[members]];\n"
        f'      in your member.toml write `id = "{name}"` and `keys = "{keys.absolute()}"`.'
    )
