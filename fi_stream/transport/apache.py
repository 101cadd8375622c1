"""A local Apache Kafka for tests, benches and the demo: KRaft nodes from Maven Central's jars.

It needs java 17 or later and mvn. The jars are kept in the user's cache; data lives in temporary
folders, and goes with the broker.
"""

from __future__ import annotations

import atexit
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from fi_stream.transport.apache_node import ApacheNode, free_ports
from fi_stream.transport.jars import KAFKA_VERSION, missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["KAFKA_VERSION", "ApacheBroker", "missing"]

_log = structlog.get_logger()

_CONTROLLER: Final = 100
_COMMON: Final = {
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "min.insync.replicas": "1",
    # A killed broker is missed, and taken back, when the session of its past life is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Once it is back, it leads again what it led, without anybody asking.
    "leader.imbalance.check.interval.seconds": "1",
    "leader.imbalance.per.broker.percentage": "0",
}


class ApacheBroker:
    """A local Apache Kafka as a context manager; it can go away and come back in between.

    With several brokers there is a controller in a process of its own, so that each broker can go
    while the others serve: its partitions get another leader, and get it back when it returns.
    They are numbered from 1.

    Args:
        port: of the first broker; any free one, when 0.
        brokers: how many; topics get as many replicas, at most 3.
        settings: Kafka's own, for every node, beside or instead of ours.
    """

    def __init__(
        self, port: int = 0, *, brokers: int = 1, settings: Mapping[str, str] | None = None
    ) -> None:
        nodes = _nodes(port, brokers, settings or {})
        self._controllers = nodes[brokers:]
        self._brokers = dict(enumerate(nodes[:brokers], 1))
        self.bootstrap: str = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:brokers])

    @property
    def nodes(self) -> list[ApacheNode]:
        """Every process: the brokers in their order, then the controller if it is apart."""
        return [*self._brokers.values(), *self._controllers]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, broker: int | None = None) -> None:
        """Start what does not run, on the same ports and data as before; wait until it serves.

        Args:
            broker: this one alone, when given.

        Raises:
            ConfigError: java, mvn or the jars are missing.
            BrokerError: it did not start.
        """
        # Once for all starts; close() undoes it.
        atexit.unregister(self.close)
        atexit.register(self.close)
        nodes = self.nodes if broker is None else [self._brokers[broker]]
        with ThreadPoolExecutor(len(nodes), thread_name_prefix="apache") as starting:
            for started in [starting.submit(node.start) for node in nodes]:
                started.result()
        _log.info("apache_kafka.up", bootstrap=self.bootstrap, version=KAFKA_VERSION)

    def stop(self, broker: int | None = None) -> None:
        """Stop all in good order, or one broker; ports and data are kept for `start`."""
        # Brokers first: the controller must still take what they hand over.
        for node in self.nodes if broker is None else [self._brokers[broker]]:
            node.stop()

    def kill(self, broker: int | None = None) -> None:
        """End all, or one broker, as `kill -9` does; ports and data are kept for `start`."""
        for node in self.nodes if broker is None else [self._brokers[broker]]:
            node.kill()

    def close(self) -> None:
        """Stop it and remove its data."""
        for node in self.nodes:
            node.close()
        atexit.unregister(self.close)


def _nodes(port: int, brokers: int, settings: Mapping[str, str]) -> list[ApacheNode]:
    """The brokers, then the controller if there are several brokers."""
    # Kafka's own form of an identity; the first letter must not look like an option.
    cluster = "k" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]
    first, controller, *others = free_ports(brokers + 1)
    ports = [port or first, *others]
    apart = brokers > 1
    replicas = str(min(3, brokers))
    common = {
        **_COMMON,
        "controller.quorum.voters": f"{_CONTROLLER if apart else 1}@127.0.0.1:{controller}",
        "default.replication.factor": replicas,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "share.coordinator.state.topic.replication.factor": replicas,
    }
    control = f"CONTROLLER://127.0.0.1:{controller}"

    def node(number: int, at: int, roles: str, listeners: str) -> ApacheNode:
        own = {"process.roles": roles, "node.id": str(number), "listeners": listeners}
        if "broker" in roles:
            own["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{at}"
        return ApacheNode(at, {**common, **own, **settings}, cluster)

    if not apart:
        both = f"PLAINTEXT://127.0.0.1:{ports[0]},{control}"
        return [node(1, ports[0], "broker,controller", both)]
    serving = [
        node(number, at, "broker", f"PLAINTEXT://127.0.0.1:{at}")
        for number, at in enumerate(ports, 1)
    ]
    return [*serving, node(_CONTROLLER, controller, "controller", control)]
