"""The bound and the order of a stream, whatever order its results come in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fi_stream.errors import QueryError
from fi_stream.roles.streaming import streamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Asked:
    """Futures that the test completes when it likes, with the number that was asked as result."""

    def __init__(self) -> None:
        self.open: dict[int, asyncio.Future[Any]] = {}

    async def post(self, number: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.open[number] = future
        return future

    def complete(self, number: int) -> None:
        self.open.pop(number).set_result(number)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(stream: AsyncIterator[Any]) -> asyncio.Task[Any]:
    """The stream's next result, which is waited for."""
    waiting = asyncio.ensure_future(anext(stream))
    await settle()
    return waiting


async def test_results_that_come_backwards_are_yielded_as_asked_or_as_they_come() -> None:
    for ordered, expected in ((True, [0, 1, 2, 3]), (False, [3, 2, 1, 0])):
        asked = Asked()
        stream = streamed(asked.post, range(4), 8, ordered=ordered)
        first = await begun(stream)
        for number in (3, 2, 1, 0):
            asked.complete(number)
            await settle()
        assert [await first, *[one async for one in stream]] == expected


@pytest.mark.parametrize("ordered", [True, False])
async def test_no_more_are_posted_than_may_be_open_and_not_taken(*, ordered: bool) -> None:
    asked = Asked()
    stream = streamed(asked.post, range(10), 3, ordered=ordered)
    first = await begun(stream)
    assert sorted(asked.open) == [0, 1, 2]
    for number in (0, 1, 2):
        asked.complete(number)
    await settle()
    assert await first == 0
    await settle()
    # Three are done and one is taken: its place is free, the others are held for who asked.
    assert sorted(asked.open) == [3]
    await stream.aclose()


async def test_a_row_that_cannot_be_asked_ends_the_stream_after_what_was_asked_before() -> None:
    asked = Asked()

    async def post(number: int) -> asyncio.Future[Any]:
        if number == 2:
            raise QueryError("no")
        return await asked.post(number)

    for ordered in (True, False):
        stream = streamed(post, range(5), 8, ordered=ordered)
        first = await begun(stream)
        asked.complete(1)
        asked.complete(0)
        taken = {await first, await anext(stream)}
        assert taken == {0, 1}
        with pytest.raises(QueryError):
            await anext(stream)


async def test_a_stream_that_is_left_lets_go_of_its_rows() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            for number in range(1000):
                yield number
                await asyncio.sleep(0)
        finally:
            ended.set()

    asked = Asked()
    stream = streamed(asked.post, endless(), 2, ordered=True)
    first = await begun(stream)
    asked.complete(0)
    await first
    await stream.aclose()
    async with asyncio.timeout(1):
        await ended.wait()


async def test_no_rows_are_no_results() -> None:
    assert [one async for one in streamed(Asked().post, [], 4, ordered=True)] == []
