"""The client of a schedule, a process of its own: `python -m bench.crash.asker MEMBER PLAN`.

It asks at a steady rate and prints a line for each query asked and for each that it was told of, at
once, so that what it knew survives its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from fi_stream.roles.client import connect
from fi_stream.roles.logs import configure_logs

if TYPE_CHECKING:
    from fi_stream.roles.client import Client
    from fi_stream.roles.result import Result

CLIENTS = 4
"""Connections; each asks on a partition of its own choice, so that no aggregator is idle."""

LONGEST = 30.0
"""Seconds after its last query in which a client has been told of all."""


def say(**what: object) -> None:
    """One line, at once."""
    print(json.dumps(what), flush=True)


async def ask(member: str, plan: dict[str, Any]) -> None:
    """Ask for `seconds` at `rate`, deadlines drawn from `deadlines` (milliseconds)."""
    chance = random.Random(plan["seed"])
    async with AsyncExitStack() as connected:
        clients = [await connected.enter_async_context(connect(member)) for _ in range(CLIENTS)]
        say(event="ready")
        until = time.monotonic() + plan["seconds"]
        waiting: list[asyncio.Future[Result]] = []
        due = time.monotonic()
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            milliseconds = chance.uniform(*plan["deadlines"])
            client = clients[len(waiting) % CLIENTS]
            waiting.append(_post(client, len(waiting), milliseconds))
            due += 1 / plan["rate"]
        await asyncio.wait(waiting, timeout=LONGEST)
    say(event="done")


def _post(client: Client, number: int, milliseconds: float) -> asyncio.Future[Result]:
    say(event="asked", number=number, milliseconds=round(milliseconds))
    future = client.post([float(number)], deadline=milliseconds / 1000)
    future.add_done_callback(partial(_told, number))
    return future


def _told(number: int, future: asyncio.Future[Result]) -> None:
    if future.cancelled():
        return
    result = future.result()
    outcome = None if result.outcome is None else result.outcome.value
    label = None if result.decided is None else int(result.decided.labels[0])
    say(event="told", number=number, query=result.query_id, outcome=outcome, label=label)


if __name__ == "__main__":
    configure_logs("warning")
    asyncio.run(ask(sys.argv[1], json.loads(sys.argv[2])))
