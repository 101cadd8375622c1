"""A local Apache Kafka for tests, benches and the demo: one KRaft node from Maven Central's jars.

It needs java 17 or later and mvn. The jars are kept in the user's cache; data lives in a temporary
folder, and goes with the broker.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.transport.jars import KAFKA_VERSION, kafka_jars, missing, run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["KAFKA_VERSION", "ApacheBroker", "missing"]

_log = structlog.get_logger()

_UP_WITHIN: Final = 60.0
_DOWN_WITHIN: Final = 15.0
_STARTED: Final = "Kafka Server started"
_JVM: Final = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:MaxGCPauseMillis=20",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
"""
_WATCHED: Final = """\
exec 3<&0
home=$1
shift
"$@" </dev/null 3<&- &
java=$!
{
  read -r word <&3
  kill "$java"
  [ "$word" = keep ] && exit
  while kill -0 "$java" 2>/dev/null; do sleep 0.1; done
  rm -rf "$home"
} &
exec 3<&-
wait "$java"
"""
"""Runs Kafka until its input closes, which it does too when we are killed outright.

Only the word "keep" keeps the data.
"""


class ApacheBroker:
    """A local Apache Kafka as a context manager; it can go away and come back in between.

    Args:
        port: to listen on; any free one, when 0.
        settings: lines of server.properties beside ours, in Kafka's own names.
    """

    def __init__(self, port: int = 0, settings: str = "") -> None:
        self._port = port or _free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None
        self.bootstrap: str = f"127.0.0.1:{self._port}"

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

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it serves.

        Raises:
            ConfigError: java, mvn or the jars are missing.
            BrokerError: it did not start.
        """
        if self._process is not None:
            return
        jars = kafka_jars()
        if self._home is None:
            atexit.register(self.close)
            self._home = Path(tempfile.mkdtemp(prefix="fi-stream-kafka-"))
            _format(jars, self._home, self._port, self._settings)
        log = self._home / "kafka.log"
        kafka = _java(jars, "kafka.Kafka", str(self._home / "server.properties"))
        with log.open("wb") as out:
            # A session of its own: Ctrl+C in a terminal reaches us, and we stop it in good order.
            self._process = subprocess.Popen(  # noqa: S603 -- our own command
                ["/bin/sh", "-c", _WATCHED, "sh", str(self._home), *kafka],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_up(log)
        _log.info("apache_kafka.up", bootstrap=self.bootstrap, version=KAFKA_VERSION)

    def stop(self) -> None:
        """Stop the process; port and data are kept for `start`."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 -- start() asked for a pipe
        with suppress(BrokenPipeError):  # it ended by itself
            process.stdin.write(b"keep\n")
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DOWN_WITHIN)
        # Whatever is left of it, in its own group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill(self) -> None:
        """`kill -9`, as a machine fails; port and data are kept for `start`."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the shell above it, too
        self.stop()

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        home, self._home = self._home, None
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
            atexit.unregister(self.close)

    def _wait_until_up(self, log: Path) -> None:
        assert self._process is not None  # noqa: S101 -- start() has just set it
        deadline = time.monotonic() + _UP_WITHIN
        while _STARTED not in log.read_text("utf-8", "replace"):
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
                self.stop()
                what = f"ended with code {code}" if code is not None else "was not up"
                raise BrokerError(
                    f"Apache Kafka {what} within {_UP_WITHIN:g} s on port {self._port}. "
                    f"It needs java 17 or later and about 400 MB. Its last lines:\n{tail}"
                )
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _format(jars: Path, home: Path, port: int, settings: str) -> None:
    data = home / "data"
    properties = home / "server.properties"
    own = _PROPERTIES.format(port=port, controller=_free_port(), data=data)
    properties.write_text(own + settings, "utf-8")
    # Kafka's own form of an identity; the first letter must not look like an option.
    identity = "k" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]
    run(
        _java(
            jars,
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            identity,
            "--config",
            str(properties),
        )
    )


def _java(jars: Path, main: str, *arguments: str) -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise ConfigError("Apache Kafka needs java 17 or later, and java was not found.")
    return [java, *_JVM, "-cp", str(jars / "*"), main, *arguments]
