"""`fi-stream init DIR`: a complete local federation in a new directory."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    participants: Annotated[int, typer.Option(min=1, max=100, help="How many participants.")] = 3,
    bootstrap: Annotated[str, typer.Option(help="The broker's address.")] = "127.0.0.1:9092",
    name: Annotated[str, typer.Option(help="The federation's name.")] = "local",
    *,
    secagg: Annotated[
        bool, typer.Option("--secagg", help="Also a helper, and queries whose answers it hides.")
    ] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave a federation that is there as it is.")
    ] = False,
) -> None:
    """Make a federation on this machine: its federation.toml, and a directory for each member.

    All members' keys are made here, which is for trying things out: in a real federation each
    member runs `fi-stream keygen` by itself.
    """
    from fi_stream.cli import samples
    from fi_stream.cli.names import checked_name
    from fi_stream.errors import ConfigError
    from fi_stream.federation.roster import Role
    from fi_stream.sealing.identity import Identity
    from fi_stream.sealing.published import RosterKey

    checked_name(name, "--name")
    if if_missing and (directory / "federation.toml").is_file():
        print(f"{directory}/federation.toml is there: nothing to do.")
        return
    if secagg and participants < 2:
        raise ConfigError("--secagg hides one answer among others; give --participants 2 or more")
    if directory.exists() and (not directory.is_dir() or _holds_files(directory)):
        raise ConfigError(f"{directory}: is not empty; choose a new directory")
    roles = {f"p{number}": Role.PARTICIPANT for number in range(1, participants + 1)}
    roles |= {"helper": Role.HELPER} if secagg else {}
    roles |= {"aggregator": Role.AGGREGATOR, "client": Role.CLIENT}
    cards = {}
    for member, role in roles.items():
        identity = Identity.generate(member)
        identity.save(directory / member / "keys")
        cards[identity.card()] = role
        text = samples.member_text(member, role, bootstrap)
        (directory / member / "member.toml").write_text(text, "utf-8")
    for number in range(1, participants + 1):
        text = samples.model_text(f"p{number}", number)
        (directory / f"p{number}" / "model.py").write_text(text, "utf-8")
    roster_key = RosterKey.generate(name)
    roster_key.save(directory / "roster-key")
    text = samples.federation_text(samples.federation(name, cards, roster_key.public))
    (directory / "federation.toml").write_text(text, "utf-8")
    _say_what_next(directory, list(roles), bootstrap, secagg=secagg)


def _holds_files(directory: Path) -> bool:
    # Empty directories are no harm: volumes for the members may be mounted here already.
    return any(not entry.is_dir() for entry in directory.rglob("*"))


def _say_what_next(directory: Path, members: list[str], bootstrap: str, *, secagg: bool) -> None:
    from fi_stream.cli.samples import EXAMPLE_ROW

    files = {member: directory / member / "member.toml" for member in members}
    *others, aggregator, client = members
    host, _, port = bootstrap.rpartition(":")
    print(f"{directory}/federation.toml and the directories of {len(members)} members are made.")
    print("Next, each in a terminal of its own:")
    if host in ("127.0.0.1", "localhost"):
        print(f"  fi-stream broker --port {port}")
    else:
        print(f"  fi-stream topics apply --config {files[aggregator]}")
    print(f"  fi-stream aggregator {files[aggregator]}")
    for member in others:
        role = "helper" if secagg and member == "helper" else "participant"
        print(f"  fi-stream {role} {files[member]}")
    how = " --protection secagg" if secagg else ""
    print(f"  echo '{EXAMPLE_ROW}' | fi-stream ask{how} {files[client]}")
