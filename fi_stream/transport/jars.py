"""Apache Kafka's jars from Maven Central, fetched once into the user's cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = structlog.get_logger()

KAFKA_VERSION: Final = "4.1.0"
_WITHIN: Final = 900.0
_POM: Final = f"""\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>fi_stream</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def missing() -> str | None:
    """What this machine lacks to run a local Apache Kafka, or None."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not found" if absent else None


def kafka_jars() -> Path:
    """The folder with Kafka's jars; fetched once, however many processes ask for it at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fi-stream"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    absent = missing()
    if absent is not None:
        raise ConfigError(f"a local Apache Kafka needs java and mvn: {absent}. Install them.")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "kafka.lock"):
        if not jars.is_dir():
            _fetch(jars)
    return jars


def run(command: list[str], within: float = 60.0) -> str:
    """Run a tool that a local Kafka needs, and return what it printed.

    Raises:
        BrokerError: it failed, or took longer than `within` seconds.
    """
    try:
        done = subprocess.run(  # noqa: S603 -- our own commands, without a shell
            command, capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"{Path(command[0]).name} took longer than {within:g} s.") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BrokerError(
            f"{Path(command[0]).name} failed with code {done.returncode}, and Apache Kafka needs "
            f"it. Its last lines:\n{tail}"
        )
    return done.stdout


def _fetch(jars: Path) -> None:
    _log.info("apache_kafka.fetching", version=KAFKA_VERSION, into=str(jars))
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix="fetching-") as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_text(_POM, "utf-8")
        fetched = Path(folder) / "jars"
        run(
            [
                shutil.which("mvn") or "mvn",
                "--batch-mode",
                "--quiet",
                "--file",
                str(pom),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={fetched}",
            ],
            _WITHIN,
        )
        # One step, so that a folder that is there is whole.
        fetched.rename(jars)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
