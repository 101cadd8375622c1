"""`fi-stream topics`: make the broker's topics as the catalogue says, and show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fi_stream.transport.catalogue import Topic
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.topic_admin import Observed

topics_app = typer.Typer(no_args_is_help=True)

Config = Annotated[Path | None, typer.Option(help="A member.toml, for its [kafka] table.")]
Bootstrap = Annotated[str | None, typer.Option(help="The broker's address, such as host:9092.")]


@topics_app.command()
def apply(
    *,
    config: Config = None,
    bootstrap: Bootstrap = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Make missing topics, add partitions, set settings, as topics/catalogue.toml says.

    Nothing is changed when something cannot be.
    """
    import asyncio

    from fi_stream.transport import topics

    connection = _connection(config, bootstrap)
    changes = asyncio.run((topics.plan if dry_run else topics.apply)(connection))
    for change in changes:
        print(f"{'to do' if dry_run else 'done'}  {change}")
    if not changes:
        print(f"the topics of {connection.bootstrap} are as the catalogue says")


@topics_app.command()
def show(
    *,
    config: Config = None,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the catalogue; with a broker, what it has too."""
    import asyncio
    import json

    from fi_stream.transport.catalogue import catalogue

    observed = None
    if config is not None or bootstrap is not None:
        from fi_stream.transport import topics

        observed = asyncio.run(topics.show(_connection(config, bootstrap)))
    rows = [_plain(topic, observed) for topic in catalogue().topics]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows, with_broker=observed is not None)


def _plain(topic: Topic, observed: dict[str, Observed] | None) -> dict[str, object]:
    row: dict[str, object] = {
        "name": topic.name,
        "holds": topic.holds,
        "partitions": topic.partitions,
        "settings": topic.settings,
    }
    if observed is not None:
        have = observed.get(topic.name)
        row["broker"] = _found(topic, have) if have else None
    return row


def _found(topic: Topic, have: Observed) -> dict[str, object]:
    settings = have.settings
    return {
        "partitions": have.partitions,
        "settings": settings and {key: settings[key] for key in topic.settings if key in settings},
    }


def _print_table(rows: list[dict[str, object]], *, with_broker: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("topic", "partitions", *(["on the broker"] if with_broker else []), "holds"):
        table.add_column(title)
    for row in rows:
        have = row.get("broker")
        found = [str(have["partitions"]) if isinstance(have, dict) else "missing"]
        table.add_row(
            str(row["name"]),
            str(row["partitions"]),
            *(found if with_broker else []),
            str(row["holds"]),
        )
    Console().print(table)


def _connection(config: Path | None, bootstrap: str | None) -> Connection:
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import load_member
    from fi_stream.transport.connection import Connection

    if (config is None) == (bootstrap is None):
        raise ConfigError("say which broker: either --config member.toml or --bootstrap HOST:PORT.")
    if config is not None:
        return Connection.of(load_member(config).kafka, f"{config} [kafka]")
    return Connection.to(bootstrap or "")
