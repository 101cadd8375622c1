"""A member's seat in the federation: who it is, whom it knows, and its connection to the broker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from fi_stream.clock import BrokerClock, SystemClock
from fi_stream.errors import BrokerError
from fi_stream.federation.files import load_as
from fi_stream.sealing.identity import load_identity
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
    from fi_stream.sealing.identity import Identity
    from fi_stream.transport.port import Outgoing, Transport
    from fi_stream.values import BrokerMillis

_log = structlog.get_logger("seat")


@dataclass(frozen=True, slots=True)
class Seat:
    """Everything that a role has from the start."""

    settings: MemberSettings
    federation: Federation
    identity: Identity
    clock: BrokerClock
    transport: Transport
    role: Role

    @property
    def group(self) -> str:
        """The consumer group that all processes of this member and role share."""
        return f"fi.{self.federation.name}.{self.role}.{self.settings.id}"

    async def publish(self, events: Sequence[Outgoing], until: BrokerMillis | None = None) -> bool:
        """Append events and wait for the acknowledgements; learn the broker's clock from them.

        What was not acknowledged is sent again, the same bytes, until `until`: the events may
        arrive twice, and every reader of them keeps the first.

        Returns:
            Whether all were acknowledged.
        """
        while events:
            try:
                for appended in await self.transport.publish(events):
                    if appended.at is not None:
                        self.clock.acknowledged(appended.sent, appended.at)
            except BrokerError as error:
                given_up = until is not None and self.clock.now() >= until
                _log.warning("not acknowledged", events=len(events), error=str(error), up=given_up)
                if given_up:
                    return False
            else:
                break
        return True


@asynccontextmanager
async def take_seat(role: Role, file: Path | str) -> AsyncIterator[Seat]:
    """Load a member's files, connect to its broker and check the topics.

    Raises:
        ConfigError: a file is wrong.
        BrokerError: the broker could not be reached in time.
        TopicError: topics are missing or do not fit.
    """
    settings, federation = load_as(role, file)
    identity = load_identity(settings, federation)
    clock = BrokerClock(SystemClock(), Millis(federation.policy.limits.max_skew_ms))
    async with KafkaTransport(Connection.of(settings.kafka), clock.clock) as transport:
        topics = catalogue()
        await verify(transport, (topics.queries, topics.responses, topics.results, topics.keys))
        yield Seat(settings, federation, identity, clock, transport, role)
