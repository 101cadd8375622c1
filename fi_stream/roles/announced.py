"""The grants on `fi.keys` as one member sees them: who announces, and whose clock is wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from fi_stream.clock import SystemClock
from fi_stream.errors import FiStreamError
from fi_stream.events.grant import decode_grant
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.roster import Role
from fi_stream.federation.rosters import Rosters
from fi_stream.roles.doctor import WITHIN, said
from fi_stream.roles.keys import ANNOUNCE_EVERY, Keys
from fi_stream.roles.seat import take_seat
from fi_stream.roles.tally import Tally
from fi_stream.sealing.audiences import senders
from fi_stream.sealing.identity import load_identities
from fi_stream.sealing.keyring import Keyring
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.finding import Finding, ok, warning, wrong
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.port import Assigned, Partition, Start
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fi_stream.clock import BrokerClock
    from fi_stream.roles.doctor import SetUp
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.port import Record

LOOK_BACK: Final = Millis(300_000)
"""How far back grants are read: who runs has announced ten times since."""

SILENT: Final = Millis(round(3000 * ANNOUNCE_EVERY))
"""Whoever has not announced for so long does not run."""

_SENDERS: Final[Mapping[Role, tuple[Role, ...]]] = {
    Role.CLIENT: (Role.AGGREGATOR, Role.HELPER),
    Role.PARTICIPANT: (Role.CLIENT,),
    Role.AGGREGATOR: (Role.CLIENT, Role.PARTICIPANT, Role.HELPER),
    Role.HELPER: (Role.PARTICIPANT, Role.AGGREGATOR),
}
"""Whose events each role reads, and so whose grants it needs."""


async def examine_grants(setup: SetUp, *, clock_known: bool = False) -> list[Finding]:
    """Whose grants are there for us; and what their append times say about our clock."""
    try:
        async with asyncio.timeout(WITHIN):
            records = await _recent(setup.connection)
    except (FiStreamError, TimeoutError) as error:
        return [wrong("grants", f"fi.keys cannot be read ({said(error)})", "see above")]
    now = SystemClock().wall()
    identities = load_identities(setup.settings, setup.federation)
    rosters = Rosters(setup.federation)
    keyring = Keyring(rosters, setup.settings.id, identities)
    seen: dict[tuple[str, Role], int] = {}
    refused: Counter[Reason] = Counter()
    for record in records:
        accepted = keyring.accept(record.value, record.at)
        decoded = decode_grant(record.value)
        if isinstance(accepted, Refusal):
            refused[accepted.reason] += 1
        elif not isinstance(decoded, Refusal):
            epoch = decoded[1].epoch
            if keyring.find(epoch.sender, epoch.epoch) is not None:
                for role in senders(epoch.purpose):
                    seen[epoch.sender, role] = record.at
    return [
        *([] if clock_known else _clock(records, now, setup)),
        *_seen(seen, setup, now),
        *(
            warning("grants", f"{count} refused as {reason}", "see Refusals in docs/operating.md")
            for reason, count in refused.items()
        ),
    ]


async def announce(setup: SetUp) -> list[Finding]:
    """Announce this member's grants as its role does at start: may we write, and what time is it.

    The one thing here that leaves a trace: a grant of keys that nothing is sealed under.
    """
    found = []
    for role in setup.roles:
        try:
            async with asyncio.timeout(WITHIN), take_seat(role, setup.file, WITHIN) as seat:
                await Keys(seat, Tally("doctor")).announce()
        except (FiStreamError, TimeoutError) as error:
            found.append(wrong("announce", f"as {role}: {said(error)}", "see above"))
        else:
            found.append(ok("announce", f"as {role}: the broker took our grants"))
            found += _skew(seat.clock)
    return found


def _skew(clock: BrokerClock) -> Iterator[Finding]:
    if clock.offset is None:
        return  # the embedded broker has no time of its own
    offset = round(clock.offset)
    told = f"the broker's is {abs(offset)} ms {'ahead of' if offset > 0 else 'behind'} this one"
    if clock.skewed:
        yield wrong("clock", f"{told}; {clock.max_skew} are allowed", "set the clock (NTP)")
    else:
        yield ok("clock", told)


async def _recent(connection: Connection) -> list[Record]:
    """The grants of the last minutes; all that there are, on a broker without append time."""
    clock = SystemClock()
    partition = Partition(catalogue().keys.name, 0)
    what = Assigned(frozenset({partition}), Start.BEGINNING)
    records: list[Record] = []
    async with (
        KafkaTransport(connection, clock, WITHIN) as transport,
        transport.reader(what) as reader,
    ):
        await reader.seek_to_time([partition], BrokerMillis(clock.wall() - LOOK_BACK))
        ends = await reader.ends([partition])
        while (await reader.starts())[partition] < ends[partition]:
            records += await reader.poll(0.2)
    return records


def _clock(records: list[Record], now: int, setup: SetUp) -> Iterator[Finding]:
    allowed = setup.federation.policy.limits.max_skew_ms
    newest = max((record.at for record in records), default=None)
    if newest is None:
        yield warning(
            "clock",
            "there is no recent grant to compare this machine's clock with",
            "look again while a role runs, or with --announce",
        )
    elif newest > now + allowed:
        what = f"this machine's is {newest - now} ms or more behind the broker's"
        yield wrong("clock", f"{what}; {allowed} are allowed", "set the clock (NTP)")
    else:
        age = max(0, now - newest) / 1000
        yield ok("clock", f"not behind the broker's, and ahead by {age:.1f} s at most")


def _seen(seen: Mapping[tuple[str, Role], int], setup: SetUp, now: int) -> Iterator[Finding]:
    needed = {sender for ours in setup.roles for sender in _SENDERS[ours]}
    for role in sorted(needed):
        running: list[str] = []
        silent: list[str] = []
        for member in setup.federation.roster.having(role):
            at = seen.get((member, role))
            if member != setup.settings.id:
                (silent if at is None or now - at > SILENT else running).append(member)
        if running:
            yield ok("grants", f"{role} with a grant for us: {', '.join(running)}")
        if silent:
            yield warning(
                "grants",
                f"{role} without one in the last {SILENT // 1000} s: {', '.join(silent)}",
                "do they run, with the same federation.toml? a client announces while it asks",
            )
