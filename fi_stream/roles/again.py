"""Earlier queries of a member: their results found, or the queries asked again under their ids."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from fi_stream.errors import QueryError
from fi_stream.events.query_id import partition_of
from fi_stream.roles.asking import ask_of, seal
from fi_stream.roles.lookup import looking_up
from fi_stream.roles.result import Result
from fi_stream.values import Instant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fi_stream.roles.asking import Wanted
    from fi_stream.roles.keys import Keys
    from fi_stream.roles.lookup import Lookup
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.sending import Sending
    from fi_stream.roles.tally import Tally

LOOKUPS: Final = 8
"""Looks for earlier queries at once; each has a connection of its own."""

GRACE: Final = 0.1
"""Seconds past its deadline that a result may still be on its way."""


class Again:
    """Looks for what was asked before, by this process or one that is gone.

    Args:
        seat: the client's.
        keys: of its federation.
        tally: counts what is refused.
        partitions: of the topic of results.
    """

    def __init__(self, seat: Seat, keys: Keys, tally: Tally, partitions: int) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._partitions = partitions
        self._sought: set[bytes] = set()
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def find(self, query: bytes) -> Result | None:
        """The result of a query; None if there is none.

        Raises:
            QueryError: it is being looked for already.
            BrokerError: the broker does not answer.
        """
        async with self._looking_up(query) as lookup:
            return await lookup.past()

    async def ask(self, query: bytes, what: Wanted, sending: Sending) -> Result:
        """The result that is there, or that of the same query asked now.

        Raises:
            QueryError: it is being looked for already.
            BrokerError: the broker does not answer.
        """
        async with self._looking_up(query) as lookup:
            found = await lookup.past()
            if found is not None:
                return found
            began = self._seat.clock.monotonic()
            partition = partition_of(query, self._partitions)
            ask = ask_of(self._seat, query, partition, what)
            sealed = seal(self._seat, self._keys.own.find(), ask, what)
            sending.post(ask, sealed.value)
            found = await lookup.until(Instant(began + what.seconds + GRACE))
            latency = (self._seat.clock.monotonic() - began) * 1000
            return found or Result(ask, None, latency)

    @asynccontextmanager
    async def _looking_up(self, query: bytes) -> AsyncIterator[Lookup]:
        if query in self._sought:
            raise QueryError(busy(query))
        self._sought.add(query)
        try:
            async with (
                self._lookups,
                looking_up(self._seat, self._keys, self._tally, query, self._partitions) as lookup,
            ):
                yield lookup
        finally:
            self._sought.discard(query)


def busy(query: bytes) -> str:
    """Why a query cannot be looked for."""
    return f"query {query.hex()} is being asked or looked for by this client: wait for that"
