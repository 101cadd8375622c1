"""The epochs of one process, for each version of the roster that it may seal under.

There are some for the next version ahead of its moment, and for those before, under which queries
may still be open. Nothing is published here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.errors import ConfigError
from fi_stream.sealing.epochs import Audience, audiences, new_epoch
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.header import EventType
    from fi_stream.federation.federation import Federation
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.sealing.identity import Identity
    from fi_stream.values import MemberId

_log = structlog.get_logger("keys")


@dataclass(slots=True)
class Purpose:
    """One thing this process sends, and the epoch under which it does so now."""

    type: EventType
    audience: Audience
    identity: Identity
    epoch: OwnEpoch


class OwnEpochs:
    """What this process seals under; `take` what is `missing` once its grants are acknowledged."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._me = seat.settings.id
        self._purposes: dict[int, list[Purpose]] = {}
        self._told: set[int] = set()
        self.lacking: str | None = None
        """Why nothing can be sealed under the roster in effect, although that lists us."""

    def find(self, roster: int | None = None, opener: MemberId | None = None) -> OwnEpoch:
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

    def to_announce(self) -> list[OwnEpoch]:
        """All that others may need; whoever asks for an old one takes it from its first grant."""
        rosters, now = self._seat.rosters, self._seat.clock.now()
        return [
            each.epoch
            for number, purposes in self._purposes.items()
            if rosters.of(number) is not None and rosters.recent(number, now)
            for each in purposes
        ]

    def of(self, roster: int) -> list[OwnEpoch]:
        """Those of one version."""
        return [each.epoch for each in self._purposes.get(roster, ())]

    def missing(self) -> dict[int, list[Purpose]]:
        """New ones for versions that have none; those of versions that are forgotten are dropped.

        However old a query is that an aggregator finds open, its result can be sealed.
        """
        known = {each.roster.version: each for each in self._seat.rosters.all()}
        self._purposes = {n: ours for n, ours in self._purposes.items() if n in known}
        self.lacking = None
        made = {}
        for number, federation in known.items():
            member = federation.member(self._me)
            if number in self._purposes or member is None or self._seat.role not in member.roles:
                continue
            identity = self._identity(federation)
            if identity is not None:
                made[number] = [
                    self._purpose(federation, identity, kind, readers)
                    for kind, readers in audiences(federation, self._seat.role)
                ]
        return made

    def take(self, made: dict[int, list[Purpose]]) -> None:
        """Seal under these from now on."""
        self._purposes = {**self._purposes, **made}

    def worn_out(self) -> list[tuple[Purpose, OwnEpoch]]:
        """What is worn out, with the epoch that follows; not of versions that were replaced."""
        now = self._seat.clock.now()
        found = []
        for number, purposes in self._purposes.items():
            federation = self._seat.rosters.of(number)
            if federation is None or number < self.current:
                continue
            for each in purposes:
                if each.epoch.worn_out(now):
                    fresh = self._purpose(federation, each.identity, each.type, each.audience)
                    found.append((each, fresh.epoch))
        return found

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

    def _purpose(
        self, federation: Federation, identity: Identity, kind: EventType, readers: Audience
    ) -> Purpose:
        now = self._seat.clock.now()
        epoch = new_epoch(identity, federation, (self._me, kind), readers, now)
        return Purpose(kind, readers, identity, epoch)
