"""A client to be killed: asks one query after the other, and says each id before it is sent."""

from __future__ import annotations

import asyncio
import sys

from stage import rows

from fi_stream import connect
from fi_stream.roles.logs import configure_logs


async def ask_for_ever(member: str) -> None:
    async with connect(member) as client:
        for row in rows(10_000, seed=5):
            sys.stdout.write(client.post(row, deadline=3.0).query_id + "\n")
            sys.stdout.flush()
            await asyncio.sleep(0.002)


if __name__ == "__main__":
    configure_logs("warning")  # on standard error
    asyncio.run(ask_for_ever(sys.argv[1]))
