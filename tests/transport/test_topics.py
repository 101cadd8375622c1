from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from fi_stream.cli.topics import topics_app
from fi_stream.clock import SystemClock
from fi_stream.errors import ConfigError, TopicError
from fi_stream.transport import topics
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.catalogue import Catalogue, catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.transport.topic_admin import Observed, topic_admin
from fi_stream.transport.topics import Kind, compare, first_problem

ROOT = Path(__file__).parents[2]
NEEDED = (
    catalogue().queries,
    catalogue().responses,
    catalogue().results,
    catalogue().keys,
)


def as_wanted() -> dict[str, Observed]:
    return {
        topic.name: Observed(topic.partitions, {**topic.settings, "segment.bytes": "1"})
        for topic in catalogue().topics
    }


def test_the_library_reads_the_one_catalogue_of_the_contract() -> None:
    inside = ROOT / "fi_stream/transport/catalogue.toml"
    assert inside.resolve() == ROOT / "topics/catalogue.toml"
    document = tomllib.loads(inside.read_text("utf-8"))
    assert {topic.name for topic in catalogue().topics} == {
        entry["name"] for entry in document.values() if isinstance(entry, dict) and "name" in entry
    }


def test_topics_that_share_partitions_cannot_differ_in_the_catalogue() -> None:
    given = catalogue().model_dump()
    given["results"]["partitions"] += 1
    with pytest.raises(ValidationError, match=r"same number of partitions.*'fi.results': 5"):
        Catalogue.model_validate(given)


def test_every_topic_keeps_the_brokers_time_and_is_not_compressed() -> None:
    for topic in catalogue().topics:
        assert topic.settings["message.timestamp.type"] == "LogAppendTime"
        assert topic.settings["compression.type"] == "uncompressed"


def test_grants_outlive_the_keys_they_carry() -> None:
    assert int(catalogue().keys.settings["retention.ms"]) > 3_600_000
    assert catalogue().keys.partitions == 1
    assert catalogue().keys.settings["cleanup.policy"] == "delete"


def test_a_broker_as_the_catalogue_says_needs_no_change_and_has_no_problem() -> None:
    assert compare(catalogue(), as_wanted()) == []
    assert first_problem(NEEDED, as_wanted(), "b") is None


def test_every_kind_of_difference_is_found() -> None:
    have = as_wanted()
    del have["fi.dead"]
    have["fi.queries"] = replace(have["fi.queries"], partitions=2)
    have["fi.results"] = replace(have["fi.results"], partitions=8)
    have["fi.keys"] = Observed(
        1, {**catalogue().keys.settings, "message.timestamp.type": "CreateTime"}
    )
    changes = compare(catalogue(), have)
    assert [(one.topic, one.kind, one.possible) for one in changes] == [
        ("fi.queries", Kind.TOO_FEW, True),
        ("fi.results", Kind.TOO_MANY, False),
        ("fi.keys", Kind.SETTING, True),
        ("fi.dead", Kind.MISSING, True),
    ]
    assert str(changes[0]) == "fi.queries: partitions from 2 to 4"
    assert str(changes[2]) == "fi.keys: message.timestamp.type from CreateTime to LogAppendTime"


def test_settings_that_the_broker_does_not_tell_are_no_difference() -> None:
    have = {name: Observed(one.partitions) for name, one in as_wanted().items()}
    assert compare(catalogue(), have) == []
    assert first_problem(NEEDED, have, "b") is None


def test_a_missing_topic_is_a_problem_with_what_to_run() -> None:
    have = as_wanted()
    del have["fi.results"]
    del have["fi.keys"]
    assert first_problem(NEEDED, have, "kafka:9092") == (
        "missing in broker 'kafka:9092': fi.results, fi.keys. "
        "Run `fi-stream topics apply` to make them; if they are there, this member's user may "
        "not describe them."
    )


@pytest.mark.parametrize("topic", ["fi.queries", "fi.responses", "fi.results"])
def test_unequal_partition_counts_are_a_problem_with_the_numbers(topic: str) -> None:
    have = as_wanted()
    have[topic] = replace(have[topic], partitions=8)
    problem = first_problem(NEEDED, have, "kafka:9092")
    assert problem is not None
    assert "8 partitions" in problem or "has 8" in problem
    assert "4" in problem
    assert topic in problem
    assert "fi-stream topics apply" in problem


def test_equal_counts_that_are_not_the_catalogues_are_no_problem() -> None:
    have = {
        name: replace(one, partitions=12 if one.partitions > 1 else 1)
        for name, one in as_wanted().items()
    }
    assert first_problem(NEEDED, have, "b") is None


def test_a_topic_without_the_brokers_time_is_a_problem() -> None:
    have = as_wanted()
    have["fi.responses"] = Observed(
        4, {**catalogue().responses.settings, "message.timestamp.type": "CreateTime"}
    )
    problem = first_problem(NEEDED, have, "b")
    assert problem is not None
    assert "fi.responses has message.timestamp.type = CreateTime" in problem


async def test_the_embedded_broker_starts_with_the_catalogues_topics() -> None:
    with EmbeddedBroker() as broker:
        connection = Connection.to(broker.bootstrap)
        assert await topics.plan(connection) == []
        assert await topics.apply(connection) == []
        async with KafkaTransport(connection, SystemClock()) as transport:
            await topics.verify(transport, NEEDED)


async def test_the_embedded_broker_with_other_counts_changes_nothing_and_says_so() -> None:
    with EmbeddedBroker(partitions=2) as broker:
        connection = Connection.to(broker.bootstrap)
        assert {one.kind for one in await topics.plan(connection)} == {Kind.TOO_FEW}
        with pytest.raises(TopicError, match="is an embedded one"):
            await topics.apply(connection)
        async with KafkaTransport(connection, SystemClock()) as transport:
            await topics.verify(transport, NEEDED)


@pytest.mark.kafka
@pytest.mark.skipif(missing() is not None, reason=f"no Apache Kafka: {missing()}")
async def test_apply_makes_everything_so_whatever_was_there() -> None:
    with ApacheBroker() as broker:
        await apply_and_check(Connection.to(broker.bootstrap))


async def apply_and_check(empty_broker: Connection) -> None:
    queries, keys = catalogue().queries, catalogue().keys
    async with topic_admin(empty_broker) as admin:
        narrow = queries.model_copy(update={"partitions": 2})
        short = {"retention.ms": "1000", "segment.bytes": "20000000"}
        unset = keys.model_copy(update={"settings": short})
        await admin.make(narrow)
        await admin.make(unset)
        await admin.settled([narrow, unset])
    planned = await topics.plan(empty_broker)
    assert {one.kind for one in planned} == {Kind.MISSING, Kind.TOO_FEW, Kind.SETTING}
    async with KafkaTransport(empty_broker, SystemClock()) as transport:
        with pytest.raises(TopicError, match=r"missing in broker .*fi.responses, fi.results"):
            await topics.verify(transport, NEEDED)

        assert await topics.apply(empty_broker) == planned
        assert await topics.plan(empty_broker) == []
        assert await topics.apply(empty_broker) == []
        await topics.verify(transport, NEEDED)
        assert await transport.partition_count("fi.queries") == 4
    shown = await topics.show(empty_broker)
    assert list(shown) == [topic.name for topic in catalogue().topics]
    assert shown["fi.keys"].own["segment.bytes"] == "20000000", "an operator's own setting"

    # One topic grew by hand: nothing can be applied, and roles refuse with the numbers.
    async with topic_admin(empty_broker) as admin:
        await admin.widen("fi.results", 8)
        await admin.settled([catalogue().results.model_copy(update={"partitions": 8})])
    with pytest.raises(TopicError, match=r"fi.results: has 8 partitions, the catalogue says 4"):
        await topics.apply(empty_broker)
    async with KafkaTransport(empty_broker, SystemClock()) as transport:
        with pytest.raises(TopicError, match=r"fi.results has 8 partitions and fi.queries has 4"):
            await topics.verify(transport, NEEDED)


def test_show_prints_the_catalogue_and_what_a_broker_has(embedded_broker: str) -> None:
    alone = json.loads(CliRunner().invoke(topics_app, ["show", "--json"]).stdout)
    assert [row["name"] for row in alone] == [topic.name for topic in catalogue().topics]
    assert "broker" not in alone[0]
    command = ["show", "--json", "--bootstrap", embedded_broker]
    beside = json.loads(CliRunner().invoke(topics_app, command).stdout)
    assert beside[0]["broker"] == {"partitions": 4, "settings": None}


def test_apply_says_when_there_is_nothing_to_do(embedded_broker: str) -> None:
    done = CliRunner().invoke(topics_app, ["apply", "--bootstrap", embedded_broker])
    assert done.exit_code == 0
    assert done.stdout == f"the topics of {embedded_broker} are as the catalogue says\n"


@pytest.mark.parametrize("options", [[], ["--bootstrap", "a:1", "--config", "member.toml"]])
def test_apply_needs_one_broker(options: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"either --config member.toml or --bootstrap"):
        CliRunner().invoke(topics_app, ["apply", *options], catch_exceptions=False)
