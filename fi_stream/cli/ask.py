"""`fi-stream ask`: ask queries and print their results."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fi_stream.roles.result import Result


def ask(
    member: Annotated[Path, typer.Argument(help="The client's member.toml.")],
    rows: Annotated[
        Path | None,
        typer.Argument(help="Rows: .npy, .csv or .json; JSON on standard input if not given."),
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds by which a result must be there.")] = 1.0,
    rule: Annotated[str | None, typer.Option(help="How to join the answers.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Ask all rows as one query, not one query a row.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask one query for each row and print each result.

    Ends with code 9 when any query had no result by its deadline.
    """
    import asyncio

    from fi_stream.cli.rows import read_rows
    from fi_stream.federation.files import load_as
    from fi_stream.federation.roster import Role
    from fi_stream.roles.logs import configure_logs

    configure_logs("warning")  # such as a broker that is waited for
    _, federation = load_as(Role.CLIENT, member)
    queries = read_rows(rows, federation.task)
    if together:
        queries = [_joined(queries)]
    silent = asyncio.run(_ask(member, queries, (deadline, rule), as_json=as_json))
    if silent:
        raise typer.Exit(9)


async def _ask(
    member: Path, queries: list[Any], how: tuple[float, str | None], *, as_json: bool
) -> int:
    import json

    from fi_stream.roles.client import seated

    deadline, rule = how
    silent = 0
    async with seated(member) as client:
        async for result in client.stream(queries, deadline=deadline, rule=rule):
            silent += result.outcome is None
            print(json.dumps(result.to_dict()) if as_json else in_words(result), flush=True)
    return silent


def _joined(queries: list[Any]) -> Any:
    """All rows as one query.

    Raises:
        QueryError: they do not have the same inputs and shapes.
    """
    import numpy as np

    from fi_stream.errors import QueryError

    try:
        if isinstance(queries[0], dict):
            return {name: np.stack([query[name] for query in queries]) for name in queries[0]}
        return np.stack(queries)
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError(
            "the rows do not have the same inputs and shapes, and cannot be asked together: "
            "correct them, or leave out --together"
        ) from error


def in_words(result: Result) -> str:
    """A result as a person reads it."""
    if result.outcome is None:
        return f"{result.query_id}  no result by the deadline: what became of it is unknown"
    words = [f"{result.query_id}  {result.outcome.value}"]
    if result.reason is not None:
        words.append(f"({result.reason.value})")
    if result.labels is not None:
        words.append(" ".join(result.labels))
    words.append(f"{result.latency_ms:.0f} ms, {len(result.contributors)} contributors")
    words += [f"{member}: {why}" for member, why in result.missing.items()]
    if result.retry_after_ms is not None:
        words.append(f"ask again in {result.retry_after_ms} ms")
    guarantee = result.guarantee
    sentence = "" if guarantee is None else f"\n    {guarantee.sentence}"
    return "  ".join(words) + sentence
