"""Looking for the result of one query by its id, in results that are there and in those to come.

It reads in the order of the partition and takes the first valid result, whichever event of this
client with this id it is of; so it finds the same one however often, and by whomever, it is sought.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from fi_stream.events.envelope import decode_envelope
from fi_stream.events.query_id import made_at, partition_of
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.roles.reading import ResultReader
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Partition, Start
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fi_stream.roles.keys import Keys
    from fi_stream.roles.result import Result
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.gate import Verified
    from fi_stream.transport.port import Reader, Record

GRANT_WITHIN: Final = 1.0
"""Seconds in which the grant of a result is read: it was on `fi.keys` before the result was."""

_WAIT: Final = 0.05
_SOON: Final = 0.01


@asynccontextmanager
async def looking_up(
    seat: Seat, keys: Keys, tally: Tally, query: bytes, partitions: int
) -> AsyncIterator[Lookup]:
    """Begin at the time that the id names, less the skew that clocks may have.

    Raises:
        BrokerError: the broker does not answer.
    """
    partition = Partition(catalogue().results.name, partition_of(query, partitions))
    what = Assigned(frozenset({partition}), Start.BEGINNING)
    async with seat.transport.reader(what) as reader:
        skew = seat.federation.policy.limits.max_skew_ms
        await reader.seek_to_time([partition], BrokerMillis(max(0, made_at(query) - skew)))
        yield Lookup(seat, keys, tally, query, (reader, partition))


class Lookup:
    """One query that is sought. Made by `looking_up`."""

    def __init__(
        self, seat: Seat, keys: Keys, tally: Tally, query: bytes, place: tuple[Reader, Partition]
    ) -> None:
        self._seat = seat
        self._keys = keys
        self._tally = tally
        self._query = query
        self._reader, self._partition = place
        self._results = ResultReader(seat.federation, keys.gate, tally)
        self._began = seat.clock.monotonic()

    async def past(self) -> Result | None:
        """The first valid result among those that are there now."""
        end = (await self._reader.ends([self._partition]))[self._partition]
        while (await self._reader.starts())[self._partition] < end:
            found = await self._next()
            if found is not None:
                return found
        return None

    async def until(self, moment: Instant) -> Result | None:
        """The first valid result that comes until `moment`, after those that were looked at."""
        while self._seat.clock.monotonic() < moment:
            found = await self._next()
            if found is not None:
                return found
        return None

    async def _next(self) -> Result | None:
        for record in await self._reader.poll(_WAIT):
            found = await self._read(record) if record.key == self._query else None
            if isinstance(found, Refusal):
                self._tally.refused(found, record)
            elif found is not None:
                return found
        return None

    async def _read(self, record: Record) -> Result | Refusal | None:
        if not self._for_us(record):
            return None  # another client chose the same id
        event = await self._admit(record)
        if isinstance(event, Refusal):
            return event
        until = Instant(self._seat.clock.monotonic() + GRANT_WITHIN)
        while True:
            found = self._open(event, until)
            if found is not None:
                return found
            await asyncio.sleep(_SOON)

    def _open(self, event: Verified, until: Instant) -> Result | Refusal | None:
        header, now = event.header, self._seat.clock.monotonic()
        if header.reply is None:
            return Refusal(Reason.MALFORMED, "a result of nothing")
        latency = (now - self._began) * 1000
        waits = now < until
        return self._results.read(event, header.reply, header.ask, latency, waits=waits)

    def _for_us(self, record: Record) -> bool:
        decoded = decode_envelope(record.value)
        if isinstance(decoded, Refusal):
            return False
        ask, reply = decoded[1].ask, decoded[1].reply
        return ask.query == self._query and reply is not None and reply.client == self._me

    @property
    def _me(self) -> str:
        return self._seat.settings.id

    async def _admit(self, record: Record) -> Verified | Refusal:
        """Wait for its grant before anything after it is read: the order decides which counts."""
        until = self._seat.clock.monotonic() + GRANT_WITHIN
        while True:
            event = self._keys.gate.admit_known(record, "result")
            unknown = isinstance(event, Refusal) and event.reason is Reason.UNKNOWN_EPOCH
            if not unknown or self._seat.clock.monotonic() >= until:
                return event
            await asyncio.sleep(_SOON)
