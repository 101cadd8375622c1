"""A broker of its own for each test, and a stage on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging

from fi_stream.roles.client import Client
from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from pathlib import Path


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names no deadline waits long, for the machine may be busy; results come when they can."""
    for ask in (Client.ask, Client.post, Client.stream):
        assert ask.__kwdefaults__ is not None
        monkeypatch.setitem(ask.__kwdefaults__, "deadline", 10.0)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """Everything that this process logs."""
    with staging.everything_logged() as entries:
        yield entries


@pytest.fixture
def broker(logs: list[MutableMapping[str, Any]]) -> Iterator[EmbeddedBroker]:
    """An embedded broker of this test alone."""
    assert logs is not None
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def build(
    broker: EmbeddedBroker, logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> Callable[..., staging.Stage]:
    """Write a federation for this test's broker; the arguments are those of `stage.build`."""

    def built(**wanted: Any) -> staging.Stage:
        made = staging.build(tmp_path / "federation", broker.bootstrap, **wanted)
        made.logs = logs
        return made

    return built


@pytest.fixture
def on_apache(
    apache_broker: str, logs: list[MutableMapping[str, Any]], tmp_path: Path
) -> staging.Stage:
    """A federation with every protection, on the Apache Kafka that all tests share."""
    asyncio.run(apply(Connection.to(apache_broker)))
    kafka = "session.timeout.ms = 6000"
    made = staging.build(
        tmp_path / "federation", apache_broker, kafka=kafka, policy=staging.EVERY_PROTECTION
    )
    made.logs = logs
    return made
