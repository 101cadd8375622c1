"""A federation of three participants that answers, and one in which nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fi_stream.cli.init import init
from fi_stream.clock import SystemClock
from fi_stream.demo.processes import Processes
from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def client_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `member.toml` of a client whose queries are answered."""
    home, logs = tmp_path_factory.mktemp("answering"), tmp_path_factory.mktemp("logs")
    roles = dict.fromkeys(("p1", "p2", "p3"), "participant") | {"aggregator": "aggregator"}
    with EmbeddedBroker() as broker, Processes(logs, SystemClock()) as processes:
        init(home, bootstrap=broker.bootstrap, name="answering")
        for name, verb in roles.items():
            processes.start(name, [verb, str(home / name / "member.toml")])
        for name in roles:
            processes.ready(name)
        yield home / "client" / "member.toml"


@pytest.fixture(scope="session")
def unanswered_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `member.toml` of a client of a federation in which nothing else runs."""
    home = tmp_path_factory.mktemp("silent")
    with EmbeddedBroker() as broker:
        init(home, bootstrap=broker.bootstrap, name="silent", participants=1)
        yield home / "client" / "member.toml"
