"""`fi-stream roster`: make the next version of a federation's roster, and publish it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fi_stream.federation.roster import Role  # noqa: TC001  (typer reads the annotations)

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.rosters import Published

roster_app = typer.Typer(no_args_is_help=True)

Current = Annotated[Path, typer.Argument(metavar="FEDERATION", help="The federation.toml in use.")]
CardFile = Annotated[Path, typer.Argument(metavar="CARD", help="The member's public card.")]
MemberName = Annotated[str, typer.Argument(metavar="MEMBER", help="The member's name.")]
Out = Annotated[Path, typer.Option(help="Where the next version goes: a new file.")]
MemberFile = Annotated[
    Path, typer.Option(help="A member.toml, for its [kafka] table and its federation.")
]


@roster_app.command()
def key(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
) -> None:
    """Make the federation's own key, which signs versions of the roster."""
    import base64

    from fi_stream.cli.names import checked_name
    from fi_stream.sealing.published import RosterKey

    checked_name(federation, "--federation")
    made = RosterKey.generate(federation)
    made.save(directory)
    print(f"private key  {directory}/  for the keeper of federation.toml alone, with a copy apart")
    print("next: write at the top of federation.toml, before everyone gets it:")
    print(f'signing_key = "{base64.b64encode(made.public).decode("ascii")}"')


@roster_app.command()
def add(
    current: Current,
    card: CardFile,
    out: Out,
    role: Annotated[list[Role], typer.Option(help="What it does; may be given again.")],
) -> None:
    """Make the next version, with one more member."""
    from fi_stream.federation.changes import with_member
    from fi_stream.federation.files import load_card, load_federation

    _write(with_member(load_federation(current), load_card(card), role), out)


@roster_app.command()
def remove(current: Current, member: MemberName, out: Out) -> None:
    """Make the next version, without a member; what it answers to open queries still counts."""
    from fi_stream.federation.changes import without_member
    from fi_stream.federation.files import load_federation

    _write(without_member(load_federation(current), member, revoked=False), out)


@roster_app.command()
def revoke(current: Current, member: MemberName, out: Out) -> None:
    """Make the next version, without a member that is not to be heard from its moment on."""
    from fi_stream.federation.changes import without_member
    from fi_stream.federation.files import load_federation

    _write(without_member(load_federation(current), member, revoked=True), out)


@roster_app.command()
def rotate(
    current: Current,
    card: CardFile,
    out: Out,
    *,
    revoke_old: Annotated[
        bool, typer.Option("--revoke", help="The old keys are in other hands: hear them no more.")
    ] = False,
) -> None:
    """Make the next version, with new keys for a member (see `fi-stream keygen --next`)."""
    from fi_stream.federation.changes import with_keys
    from fi_stream.federation.files import load_card, load_federation

    _write(with_keys(load_federation(current), load_card(card), revoked=revoke_old), out)


@roster_app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(metavar="FEDERATION...", help="New versions.")],
    member: MemberFile,
    key: Annotated[Path, typer.Option(help="The directory of the federation's key.")],
    lead: Annotated[
        float, typer.Option("--in", min=0, max=86_400, help="Seconds until it takes effect.")
    ] = 10.0,
) -> None:
    """Sign new versions and publish them: they take effect live, at one moment for all."""
    import asyncio

    from fi_stream.roles.publishing import publish_rosters
    from fi_stream.sealing.published import RosterKey

    done = asyncio.run(publish_rosters(member, files, RosterKey.load(key), lead))
    for each in done.added:
        print(f"published  version {each.federation.roster.version}, in effect {_moment(each)}")
    if not done.added:
        print("nothing to do: these versions are published already")


@roster_app.command("list")
def list_versions(
    member: MemberFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the versions that are published, with what each changed."""
    import asyncio
    import json

    from fi_stream.roles.publishing import published_rosters

    versions = asyncio.run(published_rosters(member))
    before: Published | None = None
    rows = []
    for each in versions:
        rows.append(_plain(each, before))
        before = each
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for each, row in zip(versions, rows, strict=True):
        said = "  ".join(
            f"{what}: {', '.join(names)}" for what, names in row.items() if isinstance(names, list)
        )
        print(f"version {row['version']}  in effect {_moment(each)}  {said}")
    if not versions:
        print("no version is published: what counts is everyone's federation.toml")


def _plain(each: Published, before: Published | None) -> dict[str, object]:
    from fi_stream.federation.changes import differences

    changed = differences(before.federation if before else None, each.federation)
    return {
        "version": each.federation.roster.version,
        "effective": each.effective,
        **{what: names for what, names in changed.items() if names},
    }


def _moment(each: Published) -> str:
    from datetime import UTC, datetime

    if not each.effective:
        return "from the beginning"
    return f"from {datetime.fromtimestamp(each.effective / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _write(federation: Federation, out: Path) -> None:
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import federation_toml

    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(federation_toml(federation))
    except FileExistsError:
        raise ConfigError(
            f"{out}: is there already; a version that was given out stays as it is, so choose a "
            f"new name, such as federation-{federation.roster.version}.toml"
        ) from None
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None
    print(
        f"version {federation.roster.version} is in {out}; next: `fi-stream roster publish {out}`"
    )
