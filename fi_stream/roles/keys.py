"""The keys of one process on `fi.keys`: its own announced and renewed, those of others taken in.

Own epochs are acknowledged before use, announced again every 30 s for readers that start late, and
replaced when worn out (DESIGN 7).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.changes import differences
from fi_stream.federation.roster import Role
from fi_stream.roles.own_epochs import OwnEpochs
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.keyring import NONE, Keyring
from fi_stream.sealing.published import read_roster
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start
from fi_stream.values import Millis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fi_stream.federation.rosters import Published
    from fi_stream.roles.own_epochs import Need
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import BrokerMillis

ANNOUNCE_EVERY = 30.0
"""Seconds between two announcements of the same grant."""

LOOK_EVERY = 1.0
"""Seconds between two looks at what is worn out, in effect, or over."""

_log = structlog.get_logger("keys")

ROSTER_KEY = b"roster"
"""The Kafka key of roster events."""

IDLE = 1.0
"""Longest wait for a grant, in seconds."""

RESULTS_KEPT = Millis(86_400_000)
"""How long a client can open results, and so find them: as long as the topic keeps them."""

MOST = 32
"""Grants taken in at once: each takes two public-key operations, 0.15 ms, on the event loop."""


class Keys:
    """Seals for this process, and lets in what others sealed for it."""

    def __init__(self, seat: Seat, tally: Tally) -> None:
        self._seat = seat
        self._tally = tally
        self._me = seat.settings.id
        past = RESULTS_KEPT if seat.role is Role.CLIENT else NONE
        keyring = Keyring(seat.rosters, self._me, seat.identities, past)
        self.gate = Gate(seat.rosters, keyring, seat.clock)
        self.released: list[Record] = []
        self.caught_up = asyncio.Event()
        self.ready = asyncio.Event()
        self.own = OwnEpochs(seat)
        self._partition = Partition(catalogue().keys.name, 0)

    def take_released(self, most: int | None = None) -> list[Record]:
        """Events whose grant has come, to be admitted again: the oldest `most`, or all."""
        released = self.released[:most]
        del self.released[:most]
        return released

    async def announce(self) -> None:
        """Publish the grants of our epochs once and wait for the acknowledgement.

        Raises:
            BrokerError: the broker refused one: nobody could read what we seal.
        """
        if not (await self._publish(self.own.to_announce()) and await self._prepare()):
            raise BrokerError(
                f"the broker does not take the grants of {self._me} on "
                f"{self._partition.topic}: give this member's user the right to write there, and "
                "see the log for what the broker said."
            )

    async def keep_announcing(self, stop: asyncio.Event | None = None) -> None:
        """Announce, then again and again; renew what is worn out, acknowledged before it is used.

        Begins once it is known which roster is in effect, and says when it is `ready`. `stop` is
        set once the roster has no place for us any more.

        Raises:
            BrokerError: the broker refused one of our first grants.
            ConfigError: the roster in effect has no place for us.
        """
        await self.caught_up.wait()
        if self._over():
            raise ConfigError(
                f"{self._me} is no {self._seat.role} in version {self.own.current} of the roster, "
                "which the federation has published since this federation.toml: ask its keeper."
            )
        await self.announce()
        self.ready.set()
        clock = self._seat.clock
        next_round = clock.monotonic() + ANNOUNCE_EVERY
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if stop is not None and not stop.is_set() and self._over():
                stop.set()
            await self._prepare()
            if clock.monotonic() >= next_round:
                next_round = clock.monotonic() + ANNOUNCE_EVERY
                await self._renew()
                await self._publish(self.own.to_announce())

    async def read_grants(self) -> None:
        """Take in the rosters and the grants of others, from the oldest that is kept, for ever."""
        what = Assigned(frozenset({self._partition}), Start.BEGINNING)
        async with self._seat.transport.reader(what) as reader:
            end = (await reader.ends([self._partition]))[self._partition]
            while True:
                if not self.caught_up.is_set() and await _position(reader, self._partition) >= end:
                    self.caught_up.set()
                for record in await reader.poll(IDLE if self.caught_up.is_set() else 0.05, MOST):
                    await self._take_in(record)
                await asyncio.sleep(0)  # however many there are, the rest of the role goes on

    async def _take_in(self, record: Record) -> None:
        released, refusal = self.gate.granted(record.value)
        self.released += released
        if refusal is not None and refusal.reason is Reason.MALFORMED:
            published = read_roster(record.value, self._seat.federation)
            if not isinstance(published, Refusal):
                refusal = await self._take_roster(published)
            elif published.reason is not Reason.MALFORMED:
                refusal = published
        if refusal is not None:
            self._tally.refused(refusal, record)

    async def _take_roster(self, published: Published) -> Refusal | None:
        rosters, federation = self._seat.rosters, published.federation
        if rosters.known(published):
            return None
        before = rosters.of(rosters.newest)
        refusal = rosters.add(published)
        if refusal is not None:
            _log.error("roster.refused", version=federation.roster.version, why=refusal.detail)
            return refusal
        # Whoever started ahead, from a file of this version, was not understood until now.
        await self._publish(self.own.of(federation.roster.version))
        # No grant under it is taken in until our own are there: what comes can be answered.
        while self.ready.is_set():
            if await self._prepare():
                break
            await asyncio.sleep(LOOK_EVERY)
        self.released += self.gate.listed()
        _log.info(
            "roster",
            member=self._me,
            version=federation.roster.version,
            in_seconds=max(0, published.effective - self._seat.clock.now()) / 1000,
            **differences(before, federation),
        )
        return None

    async def _prepare(self) -> bool:
        """Make the epochs that are missing; they are used once their grants are acknowledged."""
        while made := self.own.missing():  # again: a roster may have come while we waited
            if not await self._publish([each.epoch for some in made.values() for each in some]):
                return False
            self.own.take(made)
        return True

    async def prepare(self, needs: Iterable[Need], until: BrokerMillis) -> None:
        """Make what is missing for these, unless its grant is not acknowledged until `until`."""
        made = self.own.wanted(needs)
        epochs = [each.epoch for some in made.values() for each in some]
        if epochs and await self._publish(epochs, until):
            self.own.take(made)

    async def _renew(self) -> None:
        worn_out = self.own.worn_out()
        for purpose, fresh in worn_out:
            if await self._publish([fresh]):
                purpose.epoch = fresh
        if worn_out:
            await self._announce_roster(self._seat.clock.now())

    async def _announce_roster(self, now: BrokerMillis) -> None:
        """An aggregator puts the roster in effect at the end of the log, before it is deleted."""
        value = self._seat.rosters.event(now)
        if value is not None and self._seat.role is Role.AGGREGATOR:
            await self._seat.publish([Outgoing(self._partition, ROSTER_KEY, value)])

    async def _publish(self, epochs: list[OwnEpoch], until: BrokerMillis | None = None) -> bool:
        grants = [Outgoing(self._partition, each.epoch.epoch, each.grant) for each in epochs]
        published = await self._seat.publish(grants, until)
        clock = self._seat.clock
        if clock.skewed:
            _log.error(
                "clock.wrong",
                milliseconds=round(clock.offset or 0),
                allowed=clock.max_skew,
                fix="set the clock (NTP), or raise max_skew_ms in the policy",
            )
        return published

    def _over(self) -> bool:
        """Whether the roster has no place for us, now or later, and nothing is left to finish."""
        now, role = self._seat.clock.now(), self._seat.role
        over = not self._seat.rosters.listed(self._me, role, now)
        if over:
            _log.warning("left", member=self._me, role=str(role), roster=self.own.current)
        return over


async def _position(reader: Reader, partition: Partition) -> int:
    return (await reader.starts())[partition]
