"""Many queries with a bounded number of them open; their results in order, or as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from fi_stream.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from fi_stream.federation.rows import Rows
    from fi_stream.roles.result import Result

    Posted = asyncio.Future[Result]


async def streamed(
    post: Callable[[Rows], Awaitable[Posted]],
    rows: Iterable[Rows] | AsyncIterable[Rows],
    in_flight: int,
    *,
    ordered: bool,
) -> AsyncIterator[Result]:
    """Post each of the rows, as soon as `post` has room for it, and yield each result.

    At most `in_flight` queries are posted and not yet yielded: who takes results slowly asks
    slowly. A result does not wait for the next of the rows to come.

    Raises:
        QueryError: `in_flight` allows none.
        Exception: what `post` or the rows raised, once what was posted before has its result.
    """
    if in_flight < 1:
        raise QueryError(f"in_flight is {in_flight}: at least one query must be allowed")
    room = asyncio.Semaphore(in_flight)
    ready: asyncio.Queue[Posted | None] = asyncio.Queue()
    asked = 0

    async def feed() -> None:
        nonlocal asked
        async for one in _each(rows):
            await room.acquire()
            posted = await post(one)
            asked += 1
            if ordered:
                ready.put_nowait(posted)
            else:
                posted.add_done_callback(ready.put_nowait)

    feeding = asyncio.create_task(feed(), name="client.stream")
    feeding.add_done_callback(lambda _: ready.put_nowait(None))
    try:
        yielded, fed = 0, False
        while not fed or yielded < asked:
            posted = await ready.get()
            if posted is None:
                fed = True
                continue
            result = await posted
            yielded += 1
            room.release()
            yield result
        feeding.result()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _each(rows: Iterable[Rows] | AsyncIterable[Rows]) -> AsyncIterator[Rows]:
    if isinstance(rows, AsyncIterable):
        async for one in rows:
            yield one
    else:
        for one in rows:
            yield one
