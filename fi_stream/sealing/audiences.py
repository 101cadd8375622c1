"""Who seals what to whom: one table by sender, purpose and protection (DESIGN 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fi_stream.events.header import Header, Purpose
    from fi_stream.federation.federation import Federation
    from fi_stream.values import MemberId

ALL = tuple(Protection)
_SECAGG = (Protection.SECAGG,)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line of the table: under these protections, an epoch of this purpose has these readers.

    `opens` is the role that reads the content. Where that is the client, it is only the one that
    asked, so that each client has an epoch of its own. `checks` may only verify who sent it.
    `early`: made at start, and not when the first query of that client comes.
    """

    sender: Role
    purpose: Purpose
    protections: tuple[Protection, ...]
    opens: Role
    checks: tuple[Role, ...] = ()
    early: bool = True


TABLE: tuple[Line, ...] = (
    Line(Role.CLIENT, "query", ALL, Role.PARTICIPANT, (Role.AGGREGATOR,)),
    Line(Role.PARTICIPANT, "response", (Protection.TRUSTED,), Role.AGGREGATOR),
    Line(
        Role.PARTICIPANT,
        "response",
        (Protection.BLIND,),
        Role.CLIENT,
        (Role.AGGREGATOR,),
        early=False,
    ),
    Line(Role.PARTICIPANT, "response", _SECAGG, Role.AGGREGATOR, (Role.HELPER,)),
    Line(Role.PARTICIPANT, "share", _SECAGG, Role.HELPER),
    Line(Role.AGGREGATOR, "result", ALL, Role.CLIENT, (Role.AGGREGATOR,)),
    Line(Role.AGGREGATOR, "proposal", _SECAGG, Role.HELPER, (Role.AGGREGATOR,)),
    Line(Role.AGGREGATOR, "half", _SECAGG, Role.CLIENT),
    Line(Role.HELPER, "result", _SECAGG, Role.CLIENT, (Role.AGGREGATOR,)),
    Line(Role.HELPER, "proposal", _SECAGG, Role.AGGREGATOR, (Role.HELPER,)),
)


@dataclass(frozen=True, slots=True)
class Audience:
    """The exact readers of an epoch: `openers` read content, `checkers` only check the sender."""

    openers: tuple[MemberId, ...]
    checkers: tuple[MemberId, ...] = ()

    def readers(self) -> tuple[MemberId, ...]:
        """Every reader, in the order in which their tags stand in an event."""
        return (*self.openers, *(c for c in self.checkers if c not in self.openers))


@dataclass(frozen=True, slots=True)
class Use:
    """What an epoch is for: a line of the table, for one client where that opens, else None."""

    line: Line
    client: MemberId | None = None

    def audience(self, federation: Federation) -> Audience:
        """The readers, each group sorted by member."""
        roster, line = federation.roster, self.line
        openers = roster.having(line.opens) if self.client is None else (self.client,)
        return Audience(openers, tuple(m for role in line.checks for m in roster.having(role)))


def uses(federation: Federation, role: Role, *, early: bool | None = None) -> Iterator[Use]:
    """Everything that a role may seal under the policy; only what is `early`, or only what is not.

    Lines that serve no protection of the policy have no epoch: nobody is granted in vain.
    """
    for line in TABLE:
        allowed = any(each in federation.policy.protections for each in line.protections)
        if line.sender is not role or not allowed or early not in (None, line.early):
            continue
        if line.opens is Role.CLIENT:
            yield from (Use(line, client) for client in federation.roster.having(Role.CLIENT))
        else:
            yield Use(line)


def audiences(federation: Federation, role: Role) -> list[tuple[Purpose, Audience]]:
    """What a role may seal, and to whom."""
    return [(use.line.purpose, use.audience(federation)) for use in uses(federation, role)]


@lru_cache(4096)
def use_of(role: Role, purpose: Purpose | None, protection: str, client: MemberId) -> Use | None:
    """What serves one query of `client`; without a purpose, what the role usually sends.

    Lines for all protections serve one that there is not, too: such a query is told so.
    """
    for line in TABLE:
        if (
            line.sender is role
            and purpose in (None, line.purpose)
            and (line.protections == ALL or any(each == protection for each in line.protections))
        ):
            return Use(line, client if line.opens is Role.CLIENT else None)
    return None


def senders(purpose: Purpose) -> frozenset[Role]:
    """The roles of which a member must have one to begin an epoch of this purpose."""
    return _SENDERS[purpose]


def senders_of(header: Header) -> frozenset[Role]:
    """The roles of which a member must have one to send this very event.

    A helper sends results of secure sums alone, and of what is proposed only refusals. Under a
    protection that we do not know, it is the roles that send such events under any.
    """
    if header.reply is not None and header.reply.kind in _ALONE:
        return _ALONE[header.reply.kind]
    return _SENDERS_UNDER.get((header.type, header.ask.protection), _SENDERS[header.type])


_SENDERS = {
    purpose: frozenset(line.sender for line in TABLE if line.purpose == purpose)
    for purpose in {line.purpose for line in TABLE}
}
_SENDERS_UNDER: Mapping[tuple[str, str], frozenset[Role]] = {
    (purpose, protection): frozenset(
        line.sender for line in TABLE if line.purpose == purpose and protection in line.protections
    )
    for purpose in _SENDERS
    for protection in ALL
}
_ALONE: Mapping[str, frozenset[Role]] = {
    "proposal": frozenset({Role.AGGREGATOR}),
    "refusal": frozenset({Role.HELPER}),
}
