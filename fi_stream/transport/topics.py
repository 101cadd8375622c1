"""The catalogue beside a broker: what differs, making it so, and the check of roles at start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fi_stream.errors import TopicError
from fi_stream.transport.catalogue import Catalogue, Topic, catalogue
from fi_stream.transport.topic_admin import Observed, topic_admin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fi_stream.transport.connection import Connection
    from fi_stream.transport.kafka import KafkaTransport

_RELIED_ON: Final = ("message.timestamp.type", "compression.type", "cleanup.policy")
"""Settings without which roles go wrong: deadlines, readers, replays."""


class Kind(StrEnum):
    """What differs between the catalogue and the broker."""

    MISSING = "missing"
    TOO_FEW = "too_few_partitions"
    TOO_MANY = "too_many_partitions"
    SETTING = "setting"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, and what `apply` would do about it."""

    topic: str
    kind: Kind
    have: str
    want: str
    setting: str = ""

    @property
    def possible(self) -> bool:
        """Whether it can be applied: Kafka takes no partition away."""
        return self.kind is not Kind.TOO_MANY

    def __str__(self) -> str:
        match self.kind:
            case Kind.MISSING:
                return f"{self.topic}: make it, partitions: {self.want}"
            case Kind.TOO_FEW:
                return f"{self.topic}: partitions from {self.have} to {self.want}"
            case Kind.TOO_MANY:
                return (
                    f"{self.topic}: has {self.have} partitions, the catalogue says {self.want}, "
                    "and Kafka takes none away"
                )
            case Kind.SETTING:
                return f"{self.topic}: {self.setting} from {self.have} to {self.want}"


def compare(wanted: Catalogue, observed: Mapping[str, Observed]) -> list[Change]:
    """All that differs on the broker, in the order of the catalogue."""
    changes = []
    for topic in wanted.topics:
        have = observed.get(topic.name)
        if have is None:
            changes.append(Change(topic.name, Kind.MISSING, "none", str(topic.partitions)))
            continue
        if have.partitions != topic.partitions:
            kind = Kind.TOO_FEW if have.partitions < topic.partitions else Kind.TOO_MANY
            changes.append(Change(topic.name, kind, str(have.partitions), str(topic.partitions)))
        changes += [
            Change(topic.name, Kind.SETTING, have.settings.get(key, "unset"), value, key)
            for key, value in topic.settings.items()
            if have.settings is not None and have.settings.get(key) != value
        ]
    return changes


async def plan(connection: Connection) -> list[Change]:
    """What `apply` would change on this broker.

    Raises:
        BrokerError: the broker did not answer.
    """
    wanted = catalogue()
    async with topic_admin(connection) as admin:
        return compare(wanted, await admin.observe([topic.name for topic in wanted.topics]))


async def apply(connection: Connection) -> list[Change]:
    """Make the broker's topics as the catalogue says; returns what was changed.

    Raises:
        TopicError: something cannot be changed, and then nothing was.
        BrokerError: the broker did not answer.
    """
    wanted = catalogue()
    by_name = {topic.name: topic for topic in wanted.topics}
    async with topic_admin(connection) as admin:
        observed = await admin.observe(list(by_name))
        changes = compare(wanted, observed)
        _refuse_impossible(changes, connection.bootstrap, embedded=admin.embedded)
        for change in changes:
            if change.kind is Kind.MISSING:
                await admin.make(by_name[change.topic])
            elif change.kind is Kind.TOO_FEW:
                await admin.widen(change.topic, int(change.want))
        for name in {change.topic for change in changes if change.kind is Kind.SETTING}:
            # Kafka replaces them all at once: an operator's own settings go along.
            await admin.set(name, {**observed[name].own, **by_name[name].settings})
        if changes:
            await admin.settled(wanted.topics)
    return changes


async def show(connection: Connection) -> dict[str, Observed]:
    """The catalogue's topics that this broker has, in the catalogue's order.

    Raises:
        BrokerError: the broker did not answer.
    """
    names = [topic.name for topic in catalogue().topics]
    async with topic_admin(connection) as admin:
        observed = await admin.observe(names)
    return {name: observed[name] for name in names if name in observed}


async def verify(transport: KafkaTransport, needed: Iterable[Topic]) -> None:
    """Check at start that the topics a role needs are there and fit each other.

    Raises:
        TopicError: a topic is missing, counts differ among topics that must share one, or a setting
            that roles rely on is another.
        BrokerError: the broker went away and did not come back in time.
    """
    topics = tuple(needed)
    connection = transport.connection

    async def look() -> dict[str, Observed]:
        async with topic_admin(connection) as admin:
            return await admin.observe([topic.name for topic in topics])

    observed = await transport.patiently(look)
    problem = first_problem(topics, observed, connection.bootstrap)
    if problem is not None:
        raise TopicError(problem)


def first_problem(
    topics: Sequence[Topic], observed: Mapping[str, Observed], bootstrap: str
) -> str | None:
    """The first reason why a role cannot work with these topics, said to a person."""
    absent = [topic.name for topic in topics if topic.name not in observed]
    if absent:
        return (
            f"missing in broker {bootstrap!r}: {', '.join(absent)}. "
            "Run `fi-stream topics apply` to make them; if they are there, this member's user may "
            "not describe them."
        )
    sharing = [topic.name for topic in topics if topic.shared]
    for name in sharing[1:]:
        first, count = observed[sharing[0]].partitions, observed[name].partitions
        if count != first:
            return (
                f"{name} has {count} partitions and {sharing[0]} has {first}, in broker "
                f"{bootstrap!r}: queries, their responses and their results must keep the same "
                "partition. Run `fi-stream topics apply --dry-run` to see what to change."
            )
    for topic in topics:
        settings = observed[topic.name].settings
        for key in _RELIED_ON:
            have = None if settings is None else settings.get(key)
            if have is not None and have != topic.settings[key]:
                return (
                    f"{topic.name} has {key} = {have}, in broker {bootstrap!r}, and must have "
                    f"{topic.settings[key]}. Run `fi-stream topics apply` to set it."
                )
    return None


def _refuse_impossible(changes: Sequence[Change], bootstrap: str, *, embedded: bool) -> None:
    if embedded and changes:
        raise TopicError(
            f"broker {bootstrap!r} is an embedded one, which makes the catalogue's topics when it "
            f"starts and changes none. It differs: {'; '.join(map(str, changes))}. Start it again."
        )
    impossible = [change for change in changes if not change.possible]
    if impossible:
        raise TopicError(
            f"nothing was changed in broker {bootstrap!r}: {'; '.join(map(str, impossible))}. "
            "Set `partitions` in topics/catalogue.toml to what the broker has (for all the topics "
            "that share it), or delete these topics."
        )
