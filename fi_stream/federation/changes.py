"""The next version of a roster: a member added, removed, revoked, or with new keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.federation.federation import Federation
from fi_stream.federation.mistakes import nearest
from fi_stream.federation.roster import Member, Roster

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fi_stream.federation.roster import Card, Role


def with_member(federation: Federation, card: Card, roles: Iterable[Role]) -> Federation:
    """The federation with one more member.

    Raises:
        ConfigError: it is a member already, or the federation would not work.
    """
    if federation.member(card.id) is not None:
        raise ConfigError(
            f"{card.id} is in version {federation.roster.version} already: for new keys use "
            "`fi-stream roster rotate`, for other roles remove it first"
        )
    new = Member(**card.model_dump(), roles=frozenset(roles))
    return _next(federation, (*federation.roster.members, new))


def without_member(federation: Federation, member: str, *, revoked: bool) -> Federation:
    """The federation without that member; `revoked` if it is not to be heard any more.

    Raises:
        ConfigError: it is no member, or the federation would not work without it.
    """
    _required(federation, member)
    left = tuple(each for each in federation.roster.members if each.id != member)
    return _next(federation, left, (member,) if revoked else ())


def with_keys(federation: Federation, card: Card, *, revoked: bool) -> Federation:
    """The federation with other keys for a member; `revoked` if the old ones are in other hands.

    Raises:
        ConfigError: it is no member, or the card has the keys that it has.
    """
    old = _required(federation, card.id)
    new = Member(**card.model_dump(), roles=old.roles, examples=old.examples)
    if new == old:
        raise ConfigError(
            f"the card of {card.id} has the keys that version {federation.roster.version} lists: "
            "make new ones with `fi-stream keygen --next`"
        )
    members = tuple(new if each.id == card.id else each for each in federation.roster.members)
    return _next(federation, members, (card.id,) if revoked else ())


def differences(before: Federation | None, after: Federation) -> dict[str, list[str]]:
    """Who joined, left, has other keys or roles, and is revoked, by name."""
    old = {} if before is None else {member.id: member for member in before.roster.members}
    new = {member.id: member for member in after.roster.members}
    return {
        "joined": sorted(new.keys() - old.keys()),
        "left": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
        "revoked": sorted(after.roster.revoked),
    }


def _required(federation: Federation, member: str) -> Member:
    found = federation.member(member)
    if found is None:
        known = nearest(member, (each.id for each in federation.roster.members))
        version = federation.roster.version
        raise ConfigError(f"{member} is not in version {version} of the roster; {known}")
    return found


def _next(
    federation: Federation, members: tuple[Member, ...], revoked: tuple[str, ...] = ()
) -> Federation:
    roster = federation.roster
    # Whoever was revoked and is a member again was revoked by an earlier version, once and for all.
    gone = [each for each in roster.revoked if federation.member(each) is None]
    try:
        return Federation(
            name=federation.name,
            signing_key=federation.signing_key,
            task=federation.task,
            policy=federation.policy,
            roster=Roster(
                version=roster.version + 1,
                members=members,
                revoked=tuple(sorted({*gone, *revoked})),
            ),
        )
    except ValueError as error:
        # pydantic's words, without its frame: they are those of our own checks
        what = "; ".join(each["msg"].removeprefix("Value error, ") for each in _findings(error))
        raise ConfigError(f"version {roster.version + 1} would not work: {what}") from None


def _findings(error: ValueError) -> list[dict[str, str]]:
    errors = getattr(error, "errors", None)
    return [{"msg": str(error)}] if errors is None else errors(include_url=False)
