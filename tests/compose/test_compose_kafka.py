"""The settings of Kafka in `compose/compose.yml` fit each other and the members' files."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from compose.conftest import Service, Stack

ROOT = Path(__file__).parents[2]
MEMBERS = sorted((ROOT / "workers").glob("*/member*.toml"))


@pytest.fixture
def kafka(stack: Stack) -> Service:
    return stack.services["kafka"]


@pytest.fixture
def settings(kafka: Service) -> dict[str, str]:
    found = kafka.settings["environment"]
    assert all(isinstance(value, str) for value in found.values())
    return found


def listeners(text: str) -> dict[str, str]:
    return dict(one.split("://") for one in text.split(","))


def test_every_listener_has_a_protocol_and_a_port_of_its_own(settings: dict[str, str]) -> None:
    opened = listeners(settings["KAFKA_LISTENERS"])
    protocols = settings["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    assert {one.split(":")[0] for one in protocols} == set(opened)
    assert len(set(opened.values())) == len(opened)


def test_what_is_advertised_is_open_and_is_where_members_look(settings: dict[str, str]) -> None:
    opened = listeners(settings["KAFKA_LISTENERS"])
    advertised = listeners(settings["KAFKA_ADVERTISED_LISTENERS"])
    assert advertised.keys() == opened.keys() - {settings["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert settings["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    for name, address in advertised.items():
        assert address.split(":")[1] == opened[name].split(":")[1]
    assert len(MEMBERS) == 6
    for file in MEMBERS:
        member = tomllib.loads(file.read_text("utf-8"))
        assert member["kafka"]["bootstrap"]["servers"] in advertised.values(), file


def test_the_one_node_is_the_whole_quorum(kafka: Service, settings: dict[str, str]) -> None:
    assert set(settings["KAFKA_PROCESS_ROLES"].split(",")) == {"broker", "controller"}
    node, _, address = settings["KAFKA_CONTROLLER_QUORUM_VOTERS"].partition("@")
    host, _, port = address.partition(":")
    assert node == settings["KAFKA_NODE_ID"]
    assert host == kafka.name
    controller = settings["KAFKA_CONTROLLER_LISTENER_NAMES"]
    assert listeners(settings["KAFKA_LISTENERS"])[controller] == f":{port}"
    assert len(base64.urlsafe_b64decode(settings["CLUSTER_ID"] + "==")) == 16


def test_one_node_holds_every_replica(settings: dict[str, str]) -> None:
    counts = [value for key, value in settings.items() if "REPLICATION" in key or "ISR" in key]
    assert len(counts) == 4
    assert set(counts) == {"1"}


def test_topics_are_never_made_by_accident_and_outlive_the_container(
    kafka: Service, settings: dict[str, str]
) -> None:
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings["KAFKA_LOG_DIRS"] in {mount.target for mount in kafka.mounts}


def test_healthy_means_that_it_answers_where_members_look(
    kafka: Service, settings: dict[str, str]
) -> None:
    advertised = listeners(settings["KAFKA_ADVERTISED_LISTENERS"]).values()
    kind, command = kafka.settings["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert command.split()[-1] in advertised
