"""A member's set-up on its machine and at its broker, looked at beside roles that may be running.

Files are read and the broker is asked; nothing is changed.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fi_stream.errors import ConfigError, FiStreamError
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role
from fi_stream.privacy.ledger import read as read_ledger
from fi_stream.roles.seat import group_name, topics_of
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.finding import Finding, ok, warning, wrong
from fi_stream.transport.rights import DESCRIBE, READ, WRITE, rights
from fi_stream.transport.topics import Kind, compare, first_problem, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings
    from fi_stream.transport.connection import Connection
    from fi_stream.transport.topic_admin import Observed
    from fi_stream.transport.topics import Change

WITHIN: Final = 20.0
"""Seconds for each thing that is asked of the broker."""


@dataclass(frozen=True, slots=True)
class SetUp:
    """What is looked at: a member's file and all that it points to."""

    file: Path
    settings: MemberSettings
    federation: Federation
    connection: Connection

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that the file is for."""
        if self.settings.member.role is not None:
            return (self.settings.member.role,)
        entry = self.federation.member(self.settings.id)
        return tuple(sorted(entry.roles)) if entry else ()


def examine_permissions(setup: SetUp) -> list[Finding]:
    """Who may read and write what is this member's alone."""
    found = [*_of_file(setup.settings, setup.file), *_of_directories(setup.settings)]
    return found or [ok("permissions", "keys, settings and ledger are this user's alone")]


async def examine_topics(setup: SetUp) -> list[Finding]:
    """The topics, the size of events that they take, and what this member may do with them."""
    topics, connection = catalogue(), setup.connection
    needed = topics_of(setup.federation)
    try:
        async with asyncio.timeout(WITHIN):
            observed = await show(connection)
    except (FiStreamError, TimeoutError) as error:
        return [wrong("topics", f"cannot be looked at ({said(error)})", "see above")]
    problem = first_problem(needed, observed, connection.bootstrap)
    if problem is not None:
        return [wrong("topics", problem, "have whoever runs the broker do so")]
    found = [
        warning("topics", _differs(change), "`fi-stream topics apply`, if that is not on purpose")
        for change in compare(topics, observed)
    ]
    found = found or [ok("topics", f"all {len(observed)} are as the catalogue says")]
    largest = connection.number("message.max.bytes")
    return [*found, *_sizes(largest, observed), *await _rights(setup)]


def said(error: BaseException) -> str:
    """An error in a finding."""
    return str(error) or f"no answer within {WITHIN:g} s"


def _differs(change: Change) -> str:
    if change.kind is Kind.MISSING:
        return f"{change.topic} is missing, or this member's user may not see it"
    return str(change)


def _sizes(largest: int, observed: Mapping[str, Observed]) -> list[Finding]:
    """Whether the largest batch that this member sends passes everywhere."""
    found = []
    for name, topic in observed.items():
        limit = (topic.settings or {}).get("max.message.bytes")
        if limit is not None and int(limit) < largest:
            what = f"{name} takes {limit} bytes, and this member may send {largest}"
            fix = "raise max.message.bytes of the topic, or lower max_message_bytes in the policy"
            found.append(wrong("message size", what, fix))
    return found or [ok("message size", f"{largest} bytes pass, as far as the broker tells")]


def _of_file(settings: MemberSettings, file: Path) -> Iterator[Finding]:
    mode = file.stat().st_mode
    others = mode & (stat.S_IRGRP | stat.S_IROTH)
    if others and {"sasl.password", "ssl.key.password"} & settings.kafka.keys():
        what = f"others may read {file}, which holds a password (mode {stat.S_IMODE(mode):04o})"
        yield warning("permissions", what, f"chmod 600 {file}")
    if mode & stat.S_IWOTH:
        what = f"everybody may write {file}, and with it choose what runs here"
        yield wrong("permissions", what, f"chmod 600 {file}")


def _of_directories(settings: MemberSettings) -> Iterator[Finding]:
    keys = settings.member.keys
    if keys.is_dir() and keys.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"others may write in {keys}, and so put other keys there"
        yield wrong("permissions", what, f"chmod 700 {keys}")
    ledger = settings.privacy and settings.privacy.ledger
    if ledger and ledger.parent.is_dir():
        yield from _of_ledger(ledger)
    store = settings.helper and settings.helper.store
    if store and store.parent.is_dir():
        yield from _unwritable(store, "store", "no sum would be released")


def _unwritable(file: Path, name: str, else_: str) -> Iterator[Finding]:
    # The directory, too: the journal of each write is beside the file.
    for target in (file.parent, file):
        if target.exists() and not os.access(target, os.W_OK):
            what = f"this user may not write the {name} {file}: {else_}"
            yield wrong("permissions", what, f"give the user of this process the right to {target}")
            return


def _of_ledger(ledger: Path) -> Iterator[Finding]:
    found = list(_unwritable(ledger, "ledger", "every query would be refused"))
    yield from found
    if ledger.exists() and not found:
        if ledger.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            what = f"others may read {ledger}, which says who asked how much"
            yield warning("permissions", what, f"chmod 600 {ledger}")
        try:
            read_ledger(ledger)
        except ConfigError as error:
            yield wrong("permissions", str(error), "as it says")


async def _rights(setup: SetUp) -> list[Finding]:
    found: list[Finding] = []
    for role in setup.roles:
        group = None
        wanted = _needed(role, setup.federation)
        if role is not Role.CLIENT:
            group = group_name(setup.federation, role, setup.settings.id)
            wanted[group] = READ
        topics = [name for name in wanted if name != group]
        try:
            async with asyncio.timeout(WITHIN):
                allowed = await rights(setup.connection, topics, group)
        except (FiStreamError, TimeoutError) as error:
            return [wrong("rights", f"cannot be asked for ({said(error)})", "see above")]
        found += _lacking(role, wanted, allowed)
    return found


def _needed(role: Role, federation: Federation) -> dict[str, int]:
    """The operations that a role needs, by topic; without the right to `fi.dead` it does less."""
    topics, dead = catalogue(), catalogue().dead.name
    queries, responses, results = topics.queries.name, topics.responses.name, topics.results.name
    look, proposals = READ | DESCRIBE, topics.proposals.name
    needed = {
        Role.CLIENT: {queries: WRITE | DESCRIBE, results: look},
        Role.PARTICIPANT: {queries: look, responses: WRITE | DESCRIBE, dead: WRITE},
        Role.AGGREGATOR: {queries: look, responses: look, results: look | WRITE, dead: WRITE},
        Role.HELPER: {responses: look, results: WRITE | DESCRIBE, dead: WRITE},
    }[role]
    sums = Protection.SECAGG in federation.policy.protections
    if sums and role in (Role.AGGREGATOR, Role.HELPER):
        needed[proposals] = look | WRITE
    return needed | {topics.keys.name: look | WRITE}


def _lacking(role: Role, wanted: Mapping[str, int], allowed: Mapping[str, int]) -> list[Finding]:
    words = {READ: "read", WRITE: "write", DESCRIBE: "describe"}
    fix = "have whoever runs the broker allow it"
    found = []
    for name, operations in wanted.items():
        if name in allowed and (missing := operations & ~allowed[name]):
            may_not = ", ".join(word for bit, word in words.items() if bit & missing)
            what = f"as {role}: this member's user may not {may_not} {name}"
            if name == catalogue().dead.name:
                found.append(warning("rights", f"{what}: no refused record would be kept", fix))
            else:
                found.append(wrong("rights", what, fix))
    if found:
        return found
    if allowed.keys() < wanted.keys():
        return [ok("rights", f"as {role}: nothing is lacking, as far as the broker tells")]
    return [ok("rights", f"as {role}: all that is needed")]
