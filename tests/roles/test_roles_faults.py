"""What Kafka does to a running federation: each fault is told, and each query has one outcome."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from pages import becomes, get, port_of, with_port
from stage import nothing_is_answered_twice, rows, until

from fi_stream import connect
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping
    from pathlib import Path

    from stage import Stage

    from fi_stream.roles.client import Client

pytestmark = pytest.mark.kafka

EVERYONE = ("agg", "p1", "p2", "p3")
QUICK = """\
heartbeat.interval.ms = 200
session.timeout.ms = 2000
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApacheBroker]:
    """Two brokers."""
    if (absent := missing()) is not None:
        pytest.skip(f"no Apache Kafka: {absent}")
    with ApacheBroker(brokers=2, settings={"group.min.session.timeout.ms": "1000"}) as running:
        yield running


@pytest.fixture
async def admin(cluster: ApacheBroker) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@pytest.fixture
async def stage(
    cluster: ApacheBroker, logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> Stage:
    await apply(Connection.to(cluster.bootstrap))
    stage = staging.build(tmp_path / "federation", cluster.bootstrap, kafka=QUICK)
    stage.logs = logs
    for member in ("agg", "p1"):
        with_port(stage, member)
    return stage


async def answered(client: Client, count: int, deadline: float = 10.0) -> Counter[str | None]:
    """The outcomes of so many queries."""
    return Counter([one.outcome async for one in client.stream(rows(count), deadline=deadline)])


async def recovered(client: Client) -> None:
    """Wait for the first query that is answered by all."""
    async with asyncio.timeout(40):
        while (await client.post(rows(1), deadline=2.0)).outcome != "complete":
            pass


@asynccontextmanager
async def seen_by(stage: Stage, member: str) -> AsyncIterator[set[str]]:
    """Everything that the member's `/readyz` says is lacking meanwhile."""
    why: set[str] = set()

    async def look() -> None:
        while True:
            _, told = await get(port_of(stage, member), "/readyz")
            why.update(json.loads(told)["why"])
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look(), name="look")
    try:
        yield why
    finally:
        looking.cancel()
        await asyncio.wait([looking])


@pytest.mark.parametrize("topic", ["fi.queries", "fi.responses", "fi.results", "fi.keys"])
async def test_a_topic_that_was_deleted_and_made_anew_is_told_and_skips_no_live_query(
    stage: Stage, admin: AIOKafkaAdminClient, topic: str
) -> None:
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert await answered(client, 20) == {"complete": 20}
        async with seen_by(stage, "agg") as why:
            await admin.delete_topics([topic])
            await until(lambda: f"topic {topic} is missing" in why)
            await apply(Connection.to(stage.bootstrap))
            await until(lambda: stage.events("topic.back", topic=topic, anew=True))
        await recovered(client)
        for member in ("agg", "p1"):
            assert (await becomes(port_of(stage, member), 200))["why"] == []
        assert await answered(client, 20) == {"complete": 20}
        assert stage.events("topic.gone", topic=topic)
        await nothing_is_answered_twice(stage)


async def test_what_retention_took_is_told_and_the_query_after_it_is_answered(
    stage: Stage, admin: AIOKafkaAdminClient
) -> None:
    async with (
        stage.running("agg", "p1") as first,
        stage.running("p2", "p3"),
        connect(stage.file("alice")) as client,
    ):
        assert await answered(client, 5) == {"complete": 5}
        await _marked(stage, admin)
        assert await answered(client, 5) == {"complete": 5}
        for one in first.values():
            await one.kill()
        assert await answered(client, 5, deadline=0.3) == {None: 5}
        await _forget(admin)
        live = client.post(rows(1), deadline=20.0)
        async with stage.running("agg", "p1") as second:
            assert (await live).outcome == "complete"
            degraded = (await becomes(port_of(stage, "p1"), 200))["degraded"]
            assert ["records were lost or could not be read" in why for why in degraded] == [True]
            assert await answered(client, 20) == {"complete": 20}
            assert second["p1"].task is not first["p1"].task
        jumps = stage.events("reader.jumped", anew=False)
        assert {"fi.queries", "fi.responses"} <= {jump["topic"] for jump in jumps}
        assert all(jump["to"] - jump["at"] == jump["count"] > 0 for jump in jumps)
        await nothing_is_answered_twice(stage)


async def _marked(stage: Stage, admin: AIOKafkaAdminClient) -> None:
    """Wait until the aggregator has committed that it read responses."""
    group = f"fi.{stage.federation.name}.aggregator.agg"
    async with asyncio.timeout(10):
        while not any(
            there.topic == catalogue().responses.name and mark.offset > 0
            for there, mark in (await admin.list_consumer_group_offsets(group)).items()
        ):
            pass


async def _forget(admin: AIOKafkaAdminClient) -> None:
    """Delete every record that queries, responses and results hold."""
    topics = catalogue()
    there = [
        TopicPartition(topic.name, number)
        for topic in (topics.queries, topics.responses, topics.results)
        for number in range(topic.partitions)
    ]
    await admin.delete_records({each: RecordsToDelete(-1) for each in there})


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_partitions_whose_leader_moved_are_read_and_written_on(
    stage: Stage, cluster: ApacheBroker, how: str
) -> None:
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        assert await answered(client, 20) == {"complete": 20}
        async with always_asking(client) as outcomes:
            await asyncio.to_thread(getattr(cluster, how), 1)
            await _goes_on(outcomes)
            await asyncio.to_thread(cluster.start, 1)
            await _leads(cluster, 1)
            await _goes_on(outcomes)
        assert set(outcomes) == {"complete"}
        assert not stage.events("broker.gone")
        assert stage.events("topic.moved", topic=catalogue().results.name)
        degraded = (await becomes(port_of(stage, "p1"), 200))["degraded"]
        assert any("partitions got another leader" in why for why in degraded)
        await nothing_is_answered_twice(stage)


@asynccontextmanager
async def always_asking(client: Client) -> AsyncIterator[Counter[str | None]]:
    """The outcomes of a stream that goes on until the block ends; then each has its own."""
    outcomes: Counter[str | None] = Counter()
    over = asyncio.Event()

    async def endless() -> AsyncIterator[Any]:
        while not over.is_set():
            yield rows(1)
            await asyncio.sleep(0.02)

    async def ask() -> None:
        async for one in client.stream(endless(), deadline=20.0, in_flight=4):
            outcomes[one.outcome] += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(), name="asking")
        try:
            yield outcomes
        finally:
            over.set()


async def _leads(cluster: ApacheBroker, broker: int) -> None:
    """Wait until a broker leads some of the partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(20):
            leaders: set[int] = set()
            while broker not in leaders:
                [topic] = await admin.describe_topics([catalogue().queries.name])
                leaders = {partition["leader"] for partition in topic["partitions"]}
    finally:
        await admin.close()


async def _goes_on(outcomes: Counter[str | None]) -> None:
    """Wait for as many outcomes as there were in flight, and more."""
    before = outcomes.total()
    await until(lambda: outcomes.total() > before + 50, within=30)
