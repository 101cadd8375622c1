"""Fresh topics for each round, with our catalogue's settings: nobody reads another's remains."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient

from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.topic_admin import topic_admin

if TYPE_CHECKING:
    from bench.setting import Setting
    from fi_stream.transport.catalogue import Topic

_GONE_WITHIN = 20.0


async def make_fresh(setting: Setting) -> None:
    """The three topics of a pipeline that is not ours."""
    like = catalogue().queries
    await _make(
        setting.bootstrap, [like.model_copy(update={"name": name}) for name in setting.topics]
    )


async def make_fresh_catalogue(setting: Setting) -> None:
    """All topics of fi_stream's catalogue, in the place of those of an earlier round."""
    topics = catalogue().topics
    names = [topic.name for topic in topics]
    client = AIOKafkaAdminClient(bootstrap_servers=setting.bootstrap)
    await client.start()
    try:
        there = [name for name in names if name in await client.list_topics()]
        if there:
            await client.delete_topics(there)
        async with asyncio.timeout(_GONE_WITHIN):
            while set(names) & set(await client.list_topics()):  # noqa: ASYNC110 -- nobody is told
                await asyncio.sleep(0.1)
    finally:
        await client.close()
    await _make(setting.bootstrap, list(topics))


async def _make(bootstrap: str, topics: list[Topic]) -> None:
    async with topic_admin(Connection.to(bootstrap)) as admin:
        for topic in topics:
            await admin.make(topic)
        await admin.settled(topics)
