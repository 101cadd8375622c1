"""A member's seat in the federation: who it is, whom it knows, and its connection to the broker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.clock import BrokerClock, SystemClock
from fi_stream.errors import BrokerError, ConfigError, SendRefused
from fi_stream.federation.files import load_as
from fi_stream.federation.policy import Protection
from fi_stream.federation.rosters import Rosters
from fi_stream.privacy.compatibility import refuse_policy
from fi_stream.privacy.sums import CAP_STEPS, part_of
from fi_stream.roles.rules import load_rules, refuse_rules
from fi_stream.sealing.identity import load_identities
from fi_stream.secagg.width import refuse_width
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.topics import verify
from fi_stream.values import Millis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings
    from fi_stream.federation.roster import Role
    from fi_stream.sealing.identity import Identities
    from fi_stream.transport.catalogue import Topic
    from fi_stream.transport.port import Outgoing, Transport
    from fi_stream.values import BrokerMillis, MemberId

_log = structlog.get_logger("seat")

PAUSE = 0.2
"""Seconds before events that were not acknowledged are sent again."""

GIVE_UP_AFTER = 60.0
"""Seconds that a process waits at start for a broker that is down."""

_ROOM = 4096
"""Bytes that an event takes on its way besides itself: its key, its labels, its batch."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Everything that a role has from the start.

    `federation` is for what no roster changes: name, task and policy.
    """

    settings: MemberSettings
    federation: Federation
    rosters: Rosters
    identities: Identities
    clock: BrokerClock
    transport: Transport
    role: Role

    @property
    def group(self) -> str:
        """The consumer group that all processes of this member and role share."""
        return group_name(self.federation, self.role, self.settings.id)

    async def publish(self, events: Sequence[Outgoing], until: BrokerMillis | None = None) -> bool:
        """Append events and wait for the acknowledgements; learn the broker's clock from them.

        What was not acknowledged is sent again, the same bytes, until `until`: the events may
        arrive twice, and every reader of them keeps the first. What the broker refuses is tried
        one by one, so that an event that it never takes costs no other.

        Returns:
            Whether all were acknowledged.
        """
        while True:
            try:
                for appended in await self.transport.publish(events):
                    if appended.at is not None:
                        self.clock.acknowledged(appended.sent, appended.at)
            except (SendRefused, ConfigError) as error:
                if len(events) > 1:
                    return all([await self.publish([event], until) for event in events])
                _log.error("not sent", topic=events[0].target.topic, error=str(error))
                return False
            except BrokerError as error:
                over = until is not None and self.clock.now() >= until
                again = not over
                _log.warning("not acknowledged", events=len(events), error=str(error), again=again)
                if over:
                    return False
                await asyncio.sleep(PAUSE)
            else:
                return True


@asynccontextmanager
async def take_seat(
    role: Role, file: Path | str, give_up_after: float = GIVE_UP_AFTER
) -> AsyncIterator[Seat]:
    """Load a member's files, connect to its broker and check the topics.

    Raises:
        ConfigError: a file is wrong, or the broker's settings do not go with the policy.
        BrokerError: the broker could not be reached in time.
        TopicError: topics are missing or do not fit.
    """
    settings, federation = load_as(role, file)
    refusal = refuse_policy(federation.policy)
    if refusal is not None:
        raise ConfigError(f"{settings.member.federation}: [policy]: {refusal}")
    if refusal := refuse_rules(federation):
        raise ConfigError(f"{settings.member.federation}: [policy] rules: {refusal}")
    load_rules(federation, role)
    if refusal := refuse_sums(federation):
        raise ConfigError(f"{settings.member.federation}: [policy.secagg]: {refusal}")
    identities = load_identities(settings, federation)
    clock = BrokerClock(SystemClock(), Millis(federation.policy.limits.max_skew_ms))
    connection = connection_of(settings, federation)
    async with KafkaTransport(connection, clock.clock, give_up_after) as transport:
        await verify(transport, topics_of(federation))
        rosters = Rosters(federation)
        yield Seat(settings, federation, rosters, identities, clock, transport, role)


def topics_of(federation: Federation) -> tuple[Topic, ...]:
    """The topics without which this federation cannot work."""
    topics = catalogue()
    needed = (topics.queries, topics.responses, topics.results, topics.keys)
    sums = Protection.SECAGG in federation.policy.protections
    return (*needed, topics.proposals) if sums else needed


def refuse_sums(federation: Federation) -> str | None:
    """Why secure sums under this policy may overflow; None when they cannot, or there are none."""
    policy = federation.policy.secagg
    if policy is None:
        return None
    return refuse_width(len(federation.participants), CAP_STEPS, part_of(policy))


def group_name(federation: Federation, role: Role, member: MemberId) -> str:
    """The consumer group of one member in one role."""
    return f"fi.{federation.name}.{role}.{member}"


def connection_of(settings: MemberSettings, federation: Federation) -> Connection:
    """The member's connection, able to send the largest event that the policy allows.

    Raises:
        ConfigError: a setting is wrong, or too small for the policy.
    """
    needed = federation.policy.limits.max_message_bytes + _ROOM
    connection = Connection.of({"message.max.bytes": needed, **settings.kafka})
    if connection.number("message.max.bytes") < needed:
        raise ConfigError(
            f"{settings.directory / 'member.toml'}: message.max.bytes under [kafka] is "
            f"{connection.number('message.max.bytes')}, and events of this federation may take "
            f"{needed} with what goes around them: write that or more, or remove the line."
        )
    return connection
