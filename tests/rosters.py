"""A roster that changes while a client asks all along."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stage import names_of, rows

from fi_stream import connect
from fi_stream.federation.files import federation_toml
from fi_stream.federation.roster import Role
from fi_stream.roles.publishing import publish_rosters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stage import Stage

    from fi_stream.federation.federation import Federation
    from fi_stream.roles.result import Result

LEAD = 0.6
"""Seconds from publishing a version to its moment."""


async def publish(stage: Stage, federation: Federation) -> int:
    """Publish a version; returns its moment."""
    file = stage.directory / f"federation-{federation.roster.version}.toml"
    file.write_text(federation_toml(federation))
    done = await publish_rosters(stage.file("alice"), [file], stage.roster_key, LEAD)
    return done.added[-1].effective


@asynccontextmanager
async def asked_all_along(
    stage: Stage, deadline: float = 8.0, protection: str | None = None
) -> AsyncIterator[list[Result]]:
    """A client asks thirty queries a second until the block ends; each has its result by then."""
    results: list[Result] = []
    begun, done = asyncio.Event(), asyncio.Event()
    drawn = rows(200)

    async def keep_asking() -> None:
        async with connect(stage.file("alice")) as fi:
            waiting = []
            while not done.is_set():
                row = drawn[len(waiting) % len(drawn)]
                posted = fi.post(row, deadline=deadline, protection=protection)
                waiting.append((row, posted))
                waiting[0][1].add_done_callback(lambda _: begun.set())
                await asyncio.sleep(0.03)
            for row, future in waiting:
                result = await future
                assert result.labels == names_of(row), result
                results.append(result)

    asking = asyncio.create_task(keep_asking())
    try:
        async with asyncio.timeout(20):
            await begun.wait()
        yield results
    finally:
        done.set()
        await asking


async def past(stage: Stage, moment: int) -> None:
    """A little later than that moment."""
    async with stage.wire("bob", Role.CLIENT, announce=False) as wire:
        await asyncio.sleep(max(0, moment - wire.seat.clock.now()) / 1000 + 0.4)


def contributors(results: list[Result]) -> list[frozenset[str]]:
    return [frozenset(one.member for one in result.contributors) for result in results]
