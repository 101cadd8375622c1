"""Which partitions a process owns: of a number all topics of its role, or none (DESIGN 6)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from fi_stream.errors import TopicError
from fi_stream.federation.policy import Protection
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.federation.federation import Federation
    from fi_stream.transport.port import Partition


def joined_topics(federation: Federation) -> tuple[str, ...]:
    """What an aggregator reads."""
    topics = catalogue()
    names = (topics.queries.name, topics.responses.name, topics.results.name)
    sums = Protection.SECAGG in federation.policy.protections
    return (*names, topics.proposals.name) if sums else names


def opened_topics() -> tuple[str, ...]:
    """What a helper reads."""
    topics = catalogue()
    return topics.responses.name, topics.proposals.name


def owned(assigned: frozenset[Partition], topics: Sequence[str]) -> set[int]:
    """The partition numbers of which all these topics are ours; none while one is missing.

    Raises:
        TopicError: the topics were assigned apart.
    """
    by_topic: defaultdict[str, set[int]] = defaultdict(set)
    for partition in assigned:
        by_topic[partition.topic].add(partition.number)
    sets = list(by_topic.values())
    if any(numbers != sets[0] for numbers in sets):
        raise TopicError(
            f"topics that are read together were assigned apart: {dict(by_topic)}. "
            "Run `fi-stream topics apply` so that they have equally many partitions."
        )
    return sets[0] if len(sets) == len(topics) else set()
