"""The epochs of one process, for each version of the roster that it may seal under.

There are some for the next version ahead of its moment, and for those before, under which queries
may still be open. Those for one client's answers come with its first query. Nothing is published
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from fi_stream.errors import ConfigError
from fi_stream.sealing.audiences import Use, use_of, uses
from fi_stream.sealing.epochs import new_epoch
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fi_stream.events.header import Purpose as EpochPurpose
    from fi_stream.federation.federation import Federation
    from fi_stream.roles.seat import Seat
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.sealing.identity import Identity
    from fi_stream.values import MemberId

_log = structlog.get_logger("keys")


@dataclass(slots=True)
class Purpose:
    """One thing this process sends, and the epoch under which it does so now."""

    use: Use
    identity: Identity
    epoch: OwnEpoch


class Need(NamedTuple):
    """What one event is sealed for: its query's version of the roster, protection and client.

    Without a `purpose` it is what the role usually sends.
    """

    roster: int
    protection: str
    client: MemberId
    purpose: EpochPurpose | None = None


class OwnEpochs:
    """What this process seals under; `take` what is `missing` once its grants are acknowledged."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._me = seat.settings.id
        self._purposes: dict[int, dict[Use, Purpose]] = {}
        self._told: set[int] = set()
        self.lacking: str | None = None
        """Why nothing can be sealed under the roster in effect, although that lists us."""

    def find(self, need: Need | None = None) -> OwnEpoch:
        """The epoch to seal under; without a need, that of a new query, under the current roster.

        Raises:
            ConfigError: that version of the roster does not list us, or keys that are not here.
        """
        need = need or Need(self.current, self._seat.federation.default_protection, self._me)
        purpose = self._purpose_for(need)
        if purpose is None:
            what = self.lacking or f"{self._me} is no {self._seat.role} in version {need.roster}"
            raise ConfigError(f"nothing can be sealed under this roster: {what}.")
        return purpose.epoch

    def holds(self, need: Need) -> bool:
        """Whether there is an epoch for that, acknowledged."""
        return self._purpose_for(need) is not None

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
        ours = self._purposes.get(self.current, {})
        made = (BrokerMillis(each.epoch.epoch.created) for each in ours.values())
        return min(made, default=now)

    def to_announce(self) -> list[OwnEpoch]:
        """All that others may need; whoever asks for an old one takes it from its first grant."""
        rosters, now = self._seat.rosters, self._seat.clock.now()
        return [
            each.epoch
            for number, purposes in self._purposes.items()
            if rosters.of(number) is not None and rosters.recent(number, now)
            for each in purposes.values()
        ]

    def of(self, roster: int) -> list[OwnEpoch]:
        """Those of one version."""
        return [each.epoch for each in self._purposes.get(roster, {}).values()]

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
                    self._purpose(federation, identity, use)
                    for use in uses(federation, self._seat.role, early=True)
                ]
        return made

    def wanted(self, needs: Iterable[Need]) -> dict[int, list[Purpose]]:
        """New ones for what nothing was sealed for yet: at most one for each client of a roster."""
        made: dict[int, dict[Use, Purpose]] = {}
        for need in needs:
            ours, use = self._purposes.get(need.roster), self._use(need)
            if ours is None or use is None or use in ours or use in made.get(need.roster, ()):
                continue
            federation = self._seat.rosters.of(need.roster)
            if federation is None or use not in uses(federation, self._seat.role):
                continue
            identity = self._identity(federation)
            if identity is not None:
                made.setdefault(need.roster, {})[use] = self._purpose(federation, identity, use)
        return {number: list(purposes.values()) for number, purposes in made.items()}

    def take(self, made: Mapping[int, list[Purpose]]) -> None:
        """Seal under these from now on."""
        for number, purposes in made.items():
            ours = self._purposes.setdefault(number, {})
            for each in purposes:
                ours.setdefault(each.use, each)

    def worn_out(self) -> list[tuple[Purpose, OwnEpoch]]:
        """What is worn out, with the epoch that follows; not of versions that were replaced.

        One for a client's answers that served none in its whole life is dropped instead: the next
        query of that client makes another.
        """
        now = self._seat.clock.now()
        found = []
        for number, purposes in self._purposes.items():
            federation = self._seat.rosters.of(number)
            if federation is None or number < self.current:
                continue
            for use, each in list(purposes.items()):
                if not each.epoch.worn_out(now):
                    continue
                if each.epoch.messages or use.line.early:
                    found.append((each, self._purpose(federation, each.identity, use).epoch))
                else:
                    del purposes[use]
        return found

    def _purpose_for(self, need: Need) -> Purpose | None:
        use = self._use(need)
        return None if use is None else self._purposes.get(need.roster, {}).get(use)

    def _use(self, need: Need) -> Use | None:
        return use_of(self._seat.role, need.purpose, need.protection, need.client)

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

    def _purpose(self, federation: Federation, identity: Identity, use: Use) -> Purpose:
        now, what = self._seat.clock.now(), (self._me, use.line.purpose)
        epoch = new_epoch(identity, federation, what, use.audience(federation), now)
        return Purpose(use, identity, epoch)
