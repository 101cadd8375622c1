"""New versions of the roster put on `fi.keys`, and those that are there read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fi_stream.clock import SystemClock
from fi_stream.errors import BrokerError, ConfigError
from fi_stream.events.refusals import Refusal
from fi_stream.federation.files import load_federation, load_member
from fi_stream.roles.keys import ROSTER_KEY
from fi_stream.roles.seat import connection_of
from fi_stream.sealing.published import read_roster
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.rosters import Published
    from fi_stream.sealing.published import RosterKey
    from fi_stream.transport.port import Transport

WITHIN = 30.0
"""Seconds that the broker has to be reached."""


@dataclass(frozen=True, slots=True)
class Rostered:
    """What the topic has, oldest version first, and what was added to it."""

    published: list[Published]
    added: list[Published]


async def published_rosters(member_file: Path) -> list[Published]:
    """The versions that the federation's key signed, as they are on the topic.

    Raises:
        ConfigError: a file is wrong.
        BrokerError: the broker could not be reached in time.
    """
    settings = load_member(member_file)
    base = load_federation(settings.member.federation)
    async with KafkaTransport(connection_of(settings, base), SystemClock(), WITHIN) as transport:
        return await _read(transport, base)


async def publish_rosters(
    member_file: Path, files: Sequence[Path], key: RosterKey, lead: float
) -> Rostered:
    """Publish the versions in `files` that are not on the topic yet, in order.

    The first version that is ever published is the one that everyone has in a file, so it counts
    from the beginning; every other counts from `lead` seconds from now on.

    Raises:
        ConfigError: a file is wrong, a version is published already with other members, or does
            not follow the one in use.
        BrokerError: the broker could not be reached in time, or does not take the event.
    """
    settings = load_member(member_file)
    base = load_federation(settings.member.federation)
    wanted = {each.roster.version: each for each in (base, *map(load_federation, files))}
    for federation in wanted.values():
        _refuse_other_changes(base, federation)
    clock = SystemClock()
    async with KafkaTransport(connection_of(settings, base), clock, WITHIN) as transport:
        there = await _read(transport, base)
        fresh = _fresh(there, [wanted[version] for version in sorted(wanted)])
        effective = BrokerMillis(clock.wall() + round(1000 * lead))
        first = not there
        added = []
        for federation in fresh:
            moment = BrokerMillis(0) if first and federation is fresh[0] else effective
            signed = key.publish(federation, moment)
            await _append(transport, signed)
            added.append(signed)
    return Rostered([*there, *added], added)


def _fresh(there: list[Published], wanted: list[Federation]) -> list[Federation]:
    known = {each.federation.roster.version: each.federation for each in there}
    for federation in wanted:
        version = federation.roster.version
        found = known.get(version)
        if found is not None and not found.roster.same(federation.roster):
            raise ConfigError(
                f"version {version} is published already, with other members or keys: what is "
                "published stays as it is; make the next version from that one"
            )
    fresh = [each for each in wanted if each.roster.version not in known]
    newest = max(known, default=0)
    if any(each.roster.version < newest for each in fresh):
        older = min(each.roster.version for each in fresh)
        raise ConfigError(
            f"version {older} is older than version {newest}, which is published: "
            "make the next version from that one"
        )
    if not there and len(fresh) == 1:
        raise ConfigError(
            f"version {fresh[0].roster.version} is the one in use, and no other is given: give the "
            "file of the next version, and in member.toml that of the version in use"
        )
    return fresh


def _refuse_other_changes(base: Federation, federation: Federation) -> None:
    changed = [
        what
        for what in ("name", "signing_key", "task", "policy")
        if getattr(base, what) != getattr(federation, what)
    ]
    if changed:
        raise ConfigError(
            f"version {federation.roster.version} has another {', '.join(changed)}: only members "
            "change while the federation runs; anything else needs new files and a new start"
        )


async def _append(transport: Transport, signed: Published) -> None:
    target = Partition(catalogue().keys.name, 0)
    await transport.publish([Outgoing(target, ROSTER_KEY, signed.value)])


async def _read(transport: Transport, base: Federation) -> list[Published]:
    if base.signing_key is None:
        raise ConfigError(
            "federation.toml has no signing_key: make one with `fi-stream roster key`, give "
            "everyone the new file, and start everyone again"
        )
    partition = Partition(catalogue().keys.name, 0)
    found: dict[int, Published] = {}
    what = Assigned(frozenset({partition}), Start.BEGINNING)
    async with transport.reader(what) as reader:
        end = (await reader.ends([partition])).get(partition)
        if end is None:
            raise BrokerError(f"the broker does not say where {partition} ends: try again")
        while (await reader.starts())[partition] < end:
            for record in await reader.poll(0.2):
                published = read_roster(record.value, base)
                if not isinstance(published, Refusal):
                    found.setdefault(published.federation.roster.version, published)
    return [found[version] for version in sorted(found)]
