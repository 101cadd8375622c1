"""The keys of one process: its own epochs, announced and renewed, and the grants of others.

Own epochs are acknowledged before use, announced again every 30 s for readers that start late,
and replaced when worn out (DESIGN 7).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.errors import BrokerError
from fi_stream.sealing.epochs import Audience, audiences, new_epoch
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.header import EventType
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import MemberId

ANNOUNCE_EVERY = 30.0
"""Seconds between two announcements of the same grant."""

_log = structlog.get_logger("keys")

IDLE = 1.0
"""Longest wait for a grant, in seconds."""

MOST = 32
"""Grants taken in at once: each takes two public-key operations, 0.15 ms, on the event loop."""


@dataclass(slots=True)
class _Purpose:
    """One thing this process sends, and the epoch under which it does so now."""

    type: EventType
    audience: Audience
    epoch: OwnEpoch


class Keys:
    """Seals for this process, and lets in what others sealed for it."""

    def __init__(self, seat: Seat, tally: Tally) -> None:
        self._seat = seat
        self._tally = tally
        me, federation = seat.settings.id, seat.federation
        self.gate = Gate(federation, Keyring(federation, me, seat.identity), seat.clock)
        self.released: list[Record] = []
        self.caught_up = asyncio.Event()
        self._purposes = [
            _Purpose(event_type, audience, self._make(event_type, audience))
            for event_type, audience in audiences(federation, seat.role)
        ]
        self._partition = Partition(catalogue().keys.name, 0)

    def epoch(self, opener: MemberId | None = None) -> OwnEpoch:
        """The epoch to seal under: for results that of the client `opener`, else the only one."""
        return next(
            purpose.epoch
            for purpose in self._purposes
            if opener is None or opener in purpose.audience.openers
        )

    @property
    def oldest(self) -> BrokerMillis:
        """When the oldest of the epochs was made that we seal under now."""
        return min(BrokerMillis(purpose.epoch.epoch.created) for purpose in self._purposes)

    def take_released(self) -> list[Record]:
        """Events whose grant has come since the last call, to be admitted again."""
        released, self.released = self.released, []
        return released

    async def announce(self) -> None:
        """Publish the grants of our epochs once and wait for the acknowledgement.

        Raises:
            BrokerError: the broker refused one: nobody could read what we seal.
        """
        if not await self._publish([purpose.epoch for purpose in self._purposes]):
            raise BrokerError(
                f"the broker does not take the grants of {self._seat.settings.id} on "
                f"{self._partition.topic}: give this member's user the right to write there, and "
                "see the log for what the broker said."
            )

    async def keep_announcing(self) -> None:
        """Announce again and again; renew what is worn out, acknowledged before it is used."""
        while True:
            await asyncio.sleep(ANNOUNCE_EVERY)
            for purpose in self._purposes:
                if purpose.epoch.worn_out(self._seat.clock.now()):
                    fresh = self._make(purpose.type, purpose.audience)
                    if await self._publish([fresh]):
                        purpose.epoch = fresh
            await self._publish([purpose.epoch for purpose in self._purposes])

    async def read_grants(self) -> None:
        """Take in the grants of others, from the oldest that is kept, for ever."""
        what = Assigned(frozenset({self._partition}), Start.BEGINNING)
        async with self._seat.transport.reader(what) as reader:
            end = (await reader.ends([self._partition]))[self._partition]
            while True:
                if not self.caught_up.is_set() and await _position(reader, self._partition) >= end:
                    self.caught_up.set()
                for record in await reader.poll(IDLE if self.caught_up.is_set() else 0.05, MOST):
                    self._take_in(record)
                await asyncio.sleep(0)  # however many there are, the rest of the role goes on

    async def _publish(self, epochs: list[OwnEpoch]) -> bool:
        published = await self._seat.publish(
            [Outgoing(self._partition, epoch.epoch.epoch, epoch.grant) for epoch in epochs]
        )
        clock = self._seat.clock
        if clock.skewed:
            _log.error(
                "this machine's clock is too far from the broker's: deadlines will be missed",
                milliseconds=round(clock.offset or 0),
                allowed=clock.max_skew,
                fix="set the clock (NTP), or raise max_skew_ms in the policy",
            )
        return published

    def _take_in(self, record: Record) -> None:
        released, refusal = self.gate.granted(record.value)
        self.released += released
        if refusal is not None:
            self._tally.refused(refusal, record)

    def _make(self, event_type: EventType, audience: Audience) -> OwnEpoch:
        seat = self._seat
        purpose = (seat.settings.id, event_type)
        return new_epoch(seat.identity, seat.federation, purpose, audience, seat.clock.now())


async def _position(reader: Reader, partition: Partition) -> int:
    return (await reader.starts())[partition]
