"""The versions of the roster that a process knows, and from when each one counts.

A query keeps the version that it was asked under, and so do its responses and its result. A newer
version is for queries from its effective moment on; members that it revokes are heard no more from
that moment on, whatever they answer. Pure: moments are append times, in broker time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.events.header import EventType
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.roster import Role
    from fi_stream.values import MemberId

RECENT = Millis(3_600_000)
"""How long a version that was replaced is on people's minds: queries under it may be open."""

MOST_VERSIONS = 16
"""Versions remembered; the oldest go first."""

_NEVER = BrokerMillis(2**63 - 1)


@dataclass(frozen=True, slots=True)
class Published:
    """A version that the federation's key signed: whom it lists, from when, and the event."""

    federation: Federation
    effective: BrokerMillis
    value: bytes


@dataclass(slots=True)
class _Version:
    federation: Federation
    effective: BrokerMillis
    value: bytes | None
    replaced: BrokerMillis = _NEVER
    roles: dict[str, frozenset[Role]] = field(default_factory=dict)
    revoked: dict[str, BrokerMillis] = field(default_factory=dict)


class Rosters:
    """All versions that are known; the one in a member's file counts until another is published."""

    def __init__(self, base: Federation) -> None:
        self.base = base
        self._versions: dict[int, _Version] = {}
        self._skew = base.policy.limits.max_skew_ms
        self._insert(_Version(base, BrokerMillis(0), None))

    @property
    def newest(self) -> int:
        """The highest version that is known, in effect or not."""
        return max(self._versions)

    def of(self, version: int) -> Federation | None:
        """The federation as of that version."""
        known = self._versions.get(version)
        return None if known is None else known.federation

    def knows(self, member: str) -> bool:
        """Whether any version lists that member."""
        return any(member in each.roles for each in self._versions.values())

    def roles(self, version: int, member: str) -> frozenset[Role] | None:
        """What that version lets a member do; None when it does not list it."""
        return self._versions[version].roles.get(member)

    def current(self, now: BrokerMillis) -> Federation:
        """The version that is in effect."""
        return self._at(now).federation

    def event(self, now: BrokerMillis) -> bytes | None:
        """The signed event of the version in effect; None when it is only in our file."""
        return self._at(now).value

    def all(self) -> list[Federation]:
        """Every version under which an event may be found, oldest first: old, current and next."""
        return [each.federation for each in self._versions.values()]

    def recent(self, version: int, now: BrokerMillis) -> bool:
        """Whether a known version is in effect, will be, or was until a short time ago."""
        return now < self._versions[version].replaced + RECENT

    def listed(self, member: MemberId, role: Role, now: BrokerMillis) -> bool:
        """Whether a member has that role now or will have, or has queries to finish that are open.

        One that left has the longest deadline for that, one that was revoked has nothing.
        """
        grace = self.base.policy.limits.max_deadline_ms + 2 * self._skew
        return any(
            role in each.roles.get(member, ())
            and now < each.replaced + grace
            and now < each.revoked.get(member, _NEVER)
            for each in self._versions.values()
        )

    def refuse(
        self, version: int, sender: str, kind: EventType, at: BrokerMillis
    ) -> Refusal | None:
        """Why an event of that sender does not count, under a known version, appended at `at`."""
        known = self._versions[version]
        if sender not in known.roles:
            return Refusal(Reason.UNKNOWN_MEMBER, sender)
        if at >= known.revoked.get(sender, _NEVER):
            return Refusal(Reason.REVOKED, sender)
        if at < known.effective - self._skew:
            return Refusal(Reason.UNKNOWN_ROSTER, f"version {version} is not in effect yet")
        if kind == "query" and at > known.replaced + self._skew:
            return Refusal(Reason.UNKNOWN_ROSTER, f"version {version} was replaced")
        return None

    def known(self, published: Published) -> bool:
        """Whether this very event was added before."""
        there = self._versions.get(published.federation.roster.version)
        return there is not None and there.value == published.value

    def add(self, published: Published) -> Refusal | None:
        """Take a version in; the first of its number counts, for ever."""
        number = published.federation.roster.version
        there = self._versions.get(number)
        if there is not None and there.value is not None:
            return None if self.known(published) else _second(number, "was published before")
        if there is not None and not there.federation.roster.same(published.federation.roster):
            return _second(number, "is not what our federation.toml lists")
        before = [v.effective for n, v in self._versions.items() if n < number]
        after = [v.effective for n, v in self._versions.items() if n > number and v.value]
        if any(moment > published.effective for moment in before) or any(
            moment < published.effective for moment in after
        ):
            what = f"version {number} would take effect out of turn"
            return Refusal(Reason.SECOND_ROSTER, what)
        self._insert(_Version(published.federation, published.effective, published.value))
        return None

    def _at(self, now: BrokerMillis) -> _Version:
        in_effect = [each for each in self._versions.values() if each.effective <= now]
        return in_effect[-1] if in_effect else next(iter(self._versions.values()))

    def _insert(self, version: _Version) -> None:
        roster = version.federation.roster
        version.roles = {member.id: member.roles for member in roster.members}
        versions = {**self._versions, roster.version: version}
        self._versions = {number: versions[number] for number in sorted(versions)[-MOST_VERSIONS:]}
        later: list[_Version] = []
        for each in reversed(self._versions.values()):
            each.replaced = later[-1].effective if later else _NEVER
            each.revoked = {
                member: newer.effective
                for newer in later  # from the newest to the next one: the earliest revocation stays
                for member in newer.federation.roster.revoked
            }
            later.append(each)


def _second(version: int, what: str) -> Refusal:
    return Refusal(Reason.SECOND_ROSTER, f"another roster of version {version} {what}")
