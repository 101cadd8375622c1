"""Brokers for every test that needs one, started once for the whole run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Where Apache Kafka must be tested (CI), a missing one is a failure and not a skip."""
    if os.environ.get("FI_REQUIRE_KAFKA") and (absent := missing()) is not None:
        raise pytest.UsageError(f"FI_REQUIRE_KAFKA is set, and there is no Apache Kafka: {absent}")


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """The address of an embedded broker with the catalogue's topics."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def apache_broker() -> Iterator[str]:
    """The address of an Apache Kafka: yours, or one started here; it has no topics."""
    given = os.environ.get("FI_KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    absent = missing()
    if absent is not None:
        pytest.skip(f"no Apache Kafka: {absent}, and FI_KAFKA_BOOTSTRAP is not set")
    with ApacheBroker() as broker:
        yield broker.bootstrap
