"""One process of a local Apache Kafka, with its port and its data in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.transport.jars import kafka_jars, run

if TYPE_CHECKING:
    from collections.abc import Mapping

_UP_WITHIN: Final = 60.0
_DOWN_WITHIN: Final = 15.0
_STARTED: Final = "Kafka Server started"
_JVM: Final = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:MaxGCPauseMillis=20",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
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


class ApacheNode:
    """A broker, a controller, or both; it can end and come back on the same port and data.

    Args:
        port: on which it listens.
        settings: its properties, `log.dirs` apart.
        cluster: the identity that all nodes of one cluster are formatted with.
    """

    def __init__(self, port: int, settings: Mapping[str, str], cluster: str) -> None:
        self.port = port
        self._settings = settings
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it serves.

        Raises:
            ConfigError: java, mvn or the jars are missing.
            BrokerError: it did not start.
        """
        if self._process is not None:
            return
        jars = kafka_jars()
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="fi-stream-kafka-"))
            self._format(jars, self._home)
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
        self._wait_until_up(self._process, log)

    def stop(self) -> None:
        """Stop it in good order: it hands over what it leads; port and data are kept."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 -- start() asked for a pipe
        with suppress(BrokenPipeError):  # it ended by itself
            process.stdin.write(b"keep\n")
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DOWN_WITHIN)
        self.kill()

    def kill(self) -> None:
        """End it at once, as `kill -9` does; port and data are kept."""
        process, self._process = self._process, None
        if process is None:
            return
        # A group of its own, with the shell above it: whatever is left of both.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None  # noqa: S101 -- as in stop()
        with suppress(BrokenPipeError):
            process.stdin.close()

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        home, self._home = self._home, None
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)

    @property
    def home(self) -> Path | None:
        """Where its data and `kafka.log` are, from the first start until it is closed."""
        return self._home

    @property
    def pid(self) -> int | None:
        """The process, and the group, that it runs in; None while it does not run."""
        return None if self._process is None else self._process.pid

    def _format(self, jars: Path, home: Path) -> None:
        properties = home / "server.properties"
        settings = {**self._settings, "log.dirs": str(home / "data")}
        properties.write_text(
            "".join(f"{key}={value}\n" for key, value in settings.items()), "utf-8"
        )
        tool = ("kafka.tools.StorageTool", "format", "--cluster-id", self._cluster)
        run(_java(jars, *tool, "--config", str(properties)))

    def _wait_until_up(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _UP_WITHIN
        while _STARTED not in log.read_text("utf-8", "replace"):
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
                self.stop()
                what = f"ended with code {code}" if code is not None else "was not up"
                raise BrokerError(
                    f"Apache Kafka {what} within {_UP_WITHIN:g} s on port {self.port}. "
                    f"It needs java 17 or later and about 400 MB. Its last lines:\n{tail}"
                )
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """So many different ports of this machine on which nobody listens."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _java(jars: Path, main: str, *arguments: str) -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise ConfigError("Apache Kafka needs java 17 or later, and java was not found.")
    return [java, *_JVM, "-cp", str(jars / "*"), main, *arguments]
