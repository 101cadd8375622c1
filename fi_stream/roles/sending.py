"""The queries that a client has posted and the broker has not taken yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fi_stream.errors import QueryError
from fi_stream.roles.labels import tool_labels
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Outgoing, Partition
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.header import Ask
    from fi_stream.roles.seat import Seat

MOST_UNSENT = 64 * 2**20
"""Bytes of queries that may wait for the broker to take those before them."""


class Sending:
    """Publishes what was posted: all that gathered while the last batch was on its way."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._waiting: list[tuple[int, Outgoing]] = []
        self._unsent = 0
        self._wake = asyncio.Event()
        self.posted = 0

    def post(self, ask: Ask, value: bytes) -> None:
        """Send a sealed query as soon as may be.

        Raises:
            QueryError: more waits than the broker takes.
        """
        if self._unsent + len(value) > MOST_UNSENT:
            raise QueryError(
                f"{self._unsent:,} bytes of queries wait to be sent, and the broker takes them "
                "more slowly than you ask: wait for results, or use `stream`, which does"
            )
        self._unsent += len(value)
        target = Partition(catalogue().queries.name, ask.partition)
        labels = tool_labels("query", self._seat.federation.task.hash, ask)
        self.posted += 1
        self._waiting.append((ask.deadline, Outgoing(target, ask.query, value, labels)))
        self._wake.set()

    async def keep_sending(self) -> None:
        """Publish for ever; what is past its deadline is of no use any more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            now = self._seat.clock.now()
            posted = [(deadline, event) for deadline, event in self._waiting if deadline > now]
            self._waiting, self._unsent = [], 0
            if posted:
                until = BrokerMillis(max(deadline for deadline, _ in posted))
                await self._seat.publish([event for _, event in posted], until)
