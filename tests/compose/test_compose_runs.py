"""Every service's command line, run as it stands, without Docker: a federation that answers.

Each service gets a directory in the place of its container's root: what compose mounts is there, at
the same path below it. Kafka is the embedded broker.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compose.conftest import Service, Stack

FI_STREAM = Path(sys.executable).parent / "fi-stream"
ADDRESS = "kafka:9092"
PORT = "9100"
START, STOP, RUN = 60.0, 10.0, 60.0


class Host:
    """Runs services on this machine, below `home`."""

    def __init__(self, home: Path, bootstrap: str) -> None:
        self.home = home
        self._bootstrap = bootstrap
        self._ports: dict[str, int] = {}

    def command(self, service: Service) -> list[str]:
        """The service's command, for the directory that stands for its root."""
        root = self.home / service.name
        if not root.exists():
            self._mount(service, root)
        assert service.command[0] == FI_STREAM.name
        words = [word.replace(ADDRESS, self._bootstrap) for word in service.command[1:]]
        return [str(FI_STREAM), *(f"{root}{w}" if w.startswith("/") else w for w in words)]

    def run(self, service: Service) -> str:
        """Run a service that ends by itself; what it printed."""
        ended = subprocess.run(
            self.command(service), capture_output=True, text=True, timeout=RUN, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    @contextmanager
    def running(self, services: list[Service]) -> Iterator[None]:
        """Run services that go on, from when all are ready; each ends well when asked to."""
        started: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for service in services:
                with self._log(service).open("wb") as log:
                    started[service.name] = self._start(service, log)
            for service in services:
                self._wait_until_ready(service, started[service.name])
            yield
            for process in started.values():
                process.terminate()
            codes = {name: process.wait(STOP) for name, process in started.items()}
            assert set(codes.values()) == {0}, codes
        finally:
            for process in started.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _start(self, service: Service, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # A model's folder is mounted read-only: no __pycache__ there.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(self.command(service), stderr=log, env=environment)

    def _wait_until_ready(self, service: Service, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START
        while (checked := self._check(service)).returncode != 0:
            said = f"{self._log(service).read_text('utf-8')}\n{checked.stdout}{checked.stderr}"
            assert process.poll() is None, f"{service.name} ended: {said}"
            assert time.monotonic() < until, f"{service.name} is not healthy: {said}"
            time.sleep(0.1)

    def _check(self, service: Service) -> subprocess.CompletedProcess[str]:
        """The service's health check."""
        _, python, *words = service.settings["healthcheck"]["test"]
        assert python == "python"
        port = str(self._ports[service.name])
        command = [sys.executable, *(word.replace(PORT, port) for word in words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN, check=False)

    def _log(self, service: Service) -> Path:
        return self.home / f"{service.name}.log"

    def _port(self, service: Service) -> int:
        """One of its own: here all containers are one machine."""
        if service.name not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[service.name] = probe.getsockname()[1]
        return self._ports[service.name]

    def _mount(self, service: Service, root: Path) -> None:
        root.mkdir()
        for mount in service.mounts:
            target = root / mount.target.removeprefix("/")
            if mount.path is not None:
                shutil.copytree(mount.path, target)
                for file in target.glob("*.toml"):
                    text = file.read_text("utf-8").replace(ADDRESS, self._bootstrap)
                    text = text.replace(f"port = {PORT}", f"port = {self._port(service)}")
                    file.write_text(text, "utf-8")
            elif not target.exists():
                volume = self.home / "volumes" / mount.source
                volume.mkdir(parents=True, exist_ok=True)
                target.symlink_to(volume)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with EmbeddedBroker() as broker:
        yield Host(tmp_path, broker.bootstrap)


def test_the_stack_comes_up_in_order_and_answers_its_client(host: Host, stack: Stack) -> None:
    goes_on = [s for s in stack.ours if s.settings["restart"] == "unless-stopped"]
    clients = [s for s in stack.ours if "profiles" in s.settings]
    guarantee = "the leader and the helper, each alone, see nothing"
    first = [s for s in stack.ours if stack.waited_for(s)]
    assert {s.name for s in stack.ours} == {s.name for s in [*first, *goes_on, *clients]}

    for service in first:
        host.run(service)
    with host.running(goes_on):
        answers = {service.name: host.run(service) for service in clients}

    results = [line for line in answers["client"].splitlines() if " ms, " in line]
    rows = (host.home / "client" / "member" / "rows.csv").read_text("utf-8").splitlines()
    assert len(results) == len(rows)
    assert all(re.search("(complete.*3|decided.*2) contributors", line) for line in results)
    assert all(
        name in line
        for line, name in zip(
            results, ["setosa"] * 2 + ["versicolor"] * 2 + ["virginica"] * 2, strict=True
        )
    )
    assert (guarantee in answers["client"]) is stack.sums
    assert "complete" in answers["load"] or "decided" in answers["load"]
    assert "no_quorum" not in answers["load"]


def test_a_federation_that_is_there_is_left_as_it_is(host: Host, stack: Stack) -> None:
    init = stack.services["init"]
    host.run(init)
    volumes = host.home / "volumes"
    before = {f: f.read_bytes() for f in volumes.rglob("*") if f.is_file()}
    assert len([file for file in before if "keys" in file.parts]) >= 10
    assert "nothing to do" in host.run(init)
    assert before == {f: f.read_bytes() for f in volumes.rglob("*") if f.is_file()}


def test_check_finds_nothing_wrong_with_the_workers_files(host: Host, stack: Stack) -> None:
    host.run(stack.services["init"])
    for service in stack.ours:
        if service.settings["restart"] == "unless-stopped":
            file = host.command(service)[2]
            done = subprocess.run(
                [str(FI_STREAM), "check", file], capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
