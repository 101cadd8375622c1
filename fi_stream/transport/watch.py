"""A look at the broker every two seconds: does it answer, are its topics the same (DESIGN 6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from fi_stream.transport.metadata import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka.client import AIOKafkaClient

    from fi_stream.clock import Clock
    from fi_stream.transport.metadata import TopicNow

_log = structlog.get_logger()

_SAY_EVERY: Final = 5.0
_LOOK_EVERY: Final = 2.0
_ANSWER_WITHIN: Final = 5.0
_NO_LEADER: Final = -1


class Watch:
    """Says when the broker or a topic goes, and when it is back; aiokafka reconnects by itself.

    Args:
        client: started; owned by the caller.
        clock: local time.
        bootstrap: the broker's address, for people.
        came_back: told of each topic that came back, and its identity.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        clock: Clock,
        bootstrap: str,
        came_back: Callable[[str, bytes | None], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._bootstrap = bootstrap
        self._came_back = came_back
        self._topics: dict[str, TopicNow] = {}
        self._missing: set[str] = set()
        self._recounted: dict[str, int] = {}
        self._lost = self._said = 0.0
        self.moved = 0
        """Partitions that got another leader."""
        self.reachable = True
        """Whether the broker answered the last time that we looked."""

    def known(self, topic: str) -> TopicNow | None:
        """What is known of a topic in use."""
        return self._topics.get(topic)

    def use(self, topic: str, now: TopicNow) -> None:
        """Look after this topic, which is like this now."""
        self._topics.setdefault(topic, now)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the topics in use, said to a person."""
        return (
            *(f"topic {topic} is missing" for topic in sorted(self._missing)),
            *(
                f"topic {topic} has a partition without a leader"
                for topic, now in sorted(self._topics.items())
                if _NO_LEADER in now.leaders
            ),
            *(
                f"topic {topic} has {self._topics[topic].partitions} partitions now and had "
                f"{had}: start this role again"
                for topic, had in sorted(self._recounted.items())
            ),
        )

    async def keep_looking(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            seen = await self._look()
            self.reachable = seen is not None
            self._say_reachable()
            for topic, now in (seen or {}).items():
                self._compare(topic, now)

    async def _look(self) -> dict[str, TopicNow] | None:
        """The topics in use as they are now; None when no broker answers."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return (await describe(self._client, list(self._topics))).topics
        except (KafkaError, TimeoutError):
            return None

    def _say_reachable(self) -> None:
        now = self._clock.monotonic()
        if self.reachable and self._lost:
            _log.warning("broker.back", seconds=round(now - self._lost, 1))
            self._lost = self._said = 0.0
        elif not self.reachable and now - self._said >= _SAY_EVERY:
            self._lost, self._said = self._lost or now, now
            _log.warning(
                "broker.gone",
                bootstrap=self._bootstrap,
                seconds=round(now - self._lost, 1),
                doing="waiting for it to come back",
            )

    def _compare(self, topic: str, now: TopicNow) -> None:
        if now.error is UnknownTopicOrPartitionError:
            if topic not in self._missing:
                self._missing.add(topic)
                _log.error("topic.gone", topic=topic, doing="waiting for it to come back")
            return
        if not now.partitions:
            return  # being made, or we may not see it
        before = self._topics[topic]
        anew = now.identity != before.identity
        if not anew:
            self._follow_leaders(topic, before, now)
        if not anew and topic not in self._missing:
            return
        self._missing.discard(topic)
        if anew:
            self._topics[topic] = now
            had = self._recounted.pop(topic, before.partitions)
            if had != now.partitions:
                self._recounted[topic] = had
        _log.error("topic.back", topic=topic, anew=anew, partitions=now.partitions)
        self._came_back(topic, now.identity)

    def _follow_leaders(self, topic: str, before: TopicNow, now: TopicNow) -> None:
        """Readers and senders follow by themselves; this is for people."""
        pairs = enumerate(zip(before.leaders, now.leaders, strict=False))
        moved = [number for number, (was, leads) in pairs if was != leads]
        if moved:
            self._topics[topic] = now
            self.moved += len(moved)
            _log.warning("topic.moved", topic=topic, partitions=moved, leaders=now.leaders)
