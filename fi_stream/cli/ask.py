"""`fi-stream ask`: ask queries and print their results."""

from __future__ import annotations

import json
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
    protection: Annotated[
        str | None, typer.Option(help="Who may see each answer: trusted, blind or secagg.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Ask all rows as one query, not one query a row.")
    ] = False,
    query_id: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="One query asked before: its result; with ROWS, ask it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask one query for each row and print each result, the query's id first.

    With --query-id and no ROWS it prints the result of that query and sends nothing. With ROWS (one
    row, or --together) it asks the query again under its id, unless its result is there. Ends with
    code 9 when any query has no result.
    """
    import asyncio

    from fi_stream.cli.rows import read_rows
    from fi_stream.federation.files import load_as
    from fi_stream.federation.roster import Role
    from fi_stream.roles.logs import configure_logs

    configure_logs("warning")  # such as a broker that is waited for
    _, federation = load_as(Role.CLIENT, member)
    find_only = query_id is not None and rows is None
    queries = [] if find_only else read_rows(rows, federation.task)
    if together and queries:
        queries = [_joined(queries)]
    how = {"deadline": deadline, "rule": rule, "protection": protection}
    if query_id is None:
        silent = asyncio.run(_ask(member, queries, how, as_json=as_json))
    else:
        silent = asyncio.run(_again(member, query_id, queries, how, as_json=as_json))
    if silent:
        raise typer.Exit(9)


async def _ask(member: Path, queries: list[Any], how: dict[str, Any], *, as_json: bool) -> int:
    from fi_stream.roles.client import seated

    silent = 0
    async with seated(member) as client:
        async for result in client.stream(queries, **how):
            silent += result.outcome is None
            _print(result, as_json=as_json)
    return silent


async def _again(
    member: Path, query_id: str, queries: list[Any], how: dict[str, Any], *, as_json: bool
) -> int:
    from fi_stream.errors import NoResult, QueryError
    from fi_stream.events.query_id import read_query_id
    from fi_stream.roles.client import seated

    known = read_query_id(query_id).hex()  # before a broker is waited for
    if len(queries) > 1:
        raise QueryError(
            f"--query-id is of one query, and here are {len(queries)}: give the one row that it "
            "asked, or --together if it asked them all"
        )
    async with seated(member) as client:
        try:
            result = (
                await client.ask(queries[0], query_id=known, **how)
                if queries
                else await client.find(known)
            )
        except NoResult:
            result = None
    if result is None:
        print(json.dumps({"query": known, "outcome": None}) if as_json else f"{known}  no result")
        return 1
    _print(result, as_json=as_json)
    return 0


def _print(result: Result, *, as_json: bool) -> None:
    print(json.dumps(result.to_dict()) if as_json else in_words(result), flush=True)


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
    if result.decided_by is not None:
        words.append(f"by {result.decided_by}: somebody is not judged yet")
    if result.certified is False:
        words.append(f"NOT certain against {result.withstand} lying contributors")
    words += [f"{member}: {why}" for member, why in result.missing.items()]
    if result.retry_after_ms is not None:
        words.append(f"ask again in {result.retry_after_ms} ms")
    guarantee = result.guarantee
    sentence = "" if guarantee is None else f"\n    {guarantee.sentence}"
    return "  ".join(words) + sentence
