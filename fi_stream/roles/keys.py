"""The keys of one process: its own epochs, announced and renewed, and the grants of others.

Own epochs are acknowledged before use, announced again every 30 s for readers that start late, and
replaced when worn out (DESIGN 7). There are some for each version of the roster that may be sealed
under, those of the next one ahead of its moment.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.changes import differences
from fi_stream.federation.roster import Role
from fi_stream.sealing.epochs import Audience, audiences, new_epoch
from fi_stream.sealing.gate import Gate
from fi_stream.sealing.keyring import NONE, Keyring
from fi_stream.sealing.published import read_roster
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.events.header import EventType
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.rosters import Published
    from fi_stream.roles.seat import Seat
    from fi_stream.roles.tally import Tally
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.sealing.identity import Identity
    from fi_stream.transport.port import Reader, Record
    from fi_stream.values import MemberId

ANNOUNCE_EVERY = 30.0
"""Seconds between two announcements of the same grant."""

LOOK_EVERY = 1.0
"""Seconds between two looks at what is worn out, in effect, or over."""

_log = structlog.get_logger("keys")

IDLE = 1.0
"""Longest wait for a grant, in seconds."""

RESULTS_KEPT = Millis(86_400_000)
"""How long a client can open results, and so find them: as long as the topic keeps them."""

MOST = 32
"""Grants taken in at once: each takes two public-key operations, 0.15 ms, on the event loop."""


@dataclass(slots=True)
class _Purpose:
    """One thing this process sends, and the epoch under which it does so now."""

    type: EventType
    audience: Audience
    identity: Identity
    epoch: OwnEpoch


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
        self._purposes: dict[int, list[_Purpose]] = {}
        self._partition = Partition(catalogue().keys.name, 0)
        self._told: set[int] = set()
        self.lacking: str | None = None
        """Why this process cannot seal under the roster in effect, although that lists it."""

    def epoch(self, roster: int | None = None, opener: MemberId | None = None) -> OwnEpoch:
        """The epoch to seal under: for results that of the client `opener`, else the only one.

        `roster` is the version that the query names; a new query is asked under the current one.

        Raises:
            ConfigError: that version of the roster does not list us, or keys that are not here.
        """
        roster = self.current if roster is None else roster
        for purpose in self._purposes.get(roster, ()):
            if opener is None or opener in purpose.audience.openers:
                return purpose.epoch
        what = self.lacking or f"{self._me} is no {self._seat.role} in version {roster}"
        raise ConfigError(f"nothing can be sealed under this roster: {what}.")

    @property
    def current(self) -> int:
        """The version of the roster to ask under: that in effect, once our grants are there."""
        federation = self._seat.rosters.current(self._seat.clock.now())
        in_effect = federation.roster.version
        if in_effect in self._purposes or self.lacking or federation.member(self._me) is None:
            return in_effect
        return max((number for number in self._purposes if number < in_effect), default=in_effect)

    @property
    def oldest(self) -> BrokerMillis:
        """When the oldest of the epochs was made that we seal under now."""
        now = self._seat.clock.now()
        ours = self._purposes.get(self.current, ())
        return min((BrokerMillis(each.epoch.epoch.created) for each in ours), default=now)

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
        if not (await self._publish(self._epochs()) and await self._prepare()):
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
                f"{self._me} is no {self._seat.role} in version {self.current} of the roster, "
                "which the federation has published since this federation.toml: ask its keeper."
            )
        await self.announce()
        self.ready.set()
        clock = self._seat.clock
        next_round = clock.monotonic() + ANNOUNCE_EVERY
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if stop is not None and self._over():
                stop.set()
            await self._prepare()
            if clock.monotonic() >= next_round:
                next_round = clock.monotonic() + ANNOUNCE_EVERY
                await self._renew()
                await self._publish(self._epochs())

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
        await self._publish(
            [each.epoch for each in self._purposes.get(federation.roster.version, ())]
        )
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
        while made := self._missing():  # again: a roster may have come while we waited
            if not await self._publish([each.epoch for some in made.values() for each in some]):
                return False
            self._purposes |= made
        return True

    def _missing(self) -> dict[int, list[_Purpose]]:
        """New epochs for versions that have none; those of versions that are over are dropped."""
        in_use = {
            federation.roster.version: federation
            for federation in self._seat.rosters.in_use(self._seat.clock.now())
        }
        self._purposes = {n: ours for n, ours in self._purposes.items() if n in in_use}
        self.lacking = None
        made = {}
        for number, federation in in_use.items():
            member = federation.member(self._me)
            if number in self._purposes or member is None or self._seat.role not in member.roles:
                continue
            identity = self._identity(federation)
            if identity is not None:
                made[number] = self._purposes_of(federation, identity)
        return made

    def _identity(self, federation: Federation) -> Identity | None:
        """Our keys as that version lists them; they may have been put into their place late."""
        identities, version = self._seat.identities, federation.roster.version
        if (found := identities.listed(federation)) is not None:
            return found
        why = "they are not there"
        try:
            identities.look_again()
        except ConfigError as error:
            why = str(error)
        if (found := identities.listed(federation)) is not None:
            return found
        where = self._seat.settings.member.keys
        what = f"version {version} of the roster lists other keys of {self._me} than {where} has"
        if version not in self._told:
            self._told.add(version)
            _log.error("keys.missing", what=what, why=why, fix="put them into its next/")
        if version <= self._seat.rosters.current(self._seat.clock.now()).roster.version:
            self.lacking = what
        return None

    async def _renew(self) -> None:
        """Replace what is worn out, unless its roster was replaced itself."""
        rosters, now = self._seat.rosters, self._seat.clock.now()
        for number, purposes in self._purposes.items():
            federation = rosters.of(number)
            if federation is None or number < self.current:
                continue
            for purpose in purposes:
                if purpose.epoch.worn_out(now):
                    fresh = self._make(federation, purpose.identity, purpose.type, purpose.audience)
                    if await self._publish([fresh]):
                        purpose.epoch = fresh
                    await self._announce_roster(now)

    async def _announce_roster(self, now: BrokerMillis) -> None:
        """An aggregator puts the roster in effect at the end of the log, before it is deleted."""
        value = self._seat.rosters.event(now)
        if value is not None and self._seat.role is Role.AGGREGATOR:
            await self._seat.publish([Outgoing(self._partition, ROSTER_KEY, value)])

    def _epochs(self) -> list[OwnEpoch]:
        return [each.epoch for purposes in self._purposes.values() for each in purposes]

    async def _publish(self, epochs: list[OwnEpoch]) -> bool:
        grants = [Outgoing(self._partition, each.epoch.epoch, each.grant) for each in epochs]
        published = await self._seat.publish(grants)
        clock = self._seat.clock
        if clock.skewed:
            _log.error(
                "this machine's clock is too far from the broker's: deadlines will be missed",
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
            _log.warning("left", member=self._me, role=str(role), roster=self.current)
        return over

    def _purposes_of(self, federation: Federation, identity: Identity) -> list[_Purpose]:
        return [
            _Purpose(kind, readers, identity, self._make(federation, identity, kind, readers))
            for kind, readers in audiences(federation, self._seat.role)
        ]

    def _make(
        self, federation: Federation, identity: Identity, kind: EventType, readers: Audience
    ) -> OwnEpoch:
        return new_epoch(identity, federation, (self._me, kind), readers, self._seat.clock.now())


ROSTER_KEY = b"roster"
"""The Kafka key of roster events."""


async def _position(reader: Reader, partition: Partition) -> int:
    return (await reader.starts())[partition]
