"""The processes of one schedule: started, killed, started again, and none left behind."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.crash.history import Span
from bench.crash.service import served
from bench.rounds import BenchFailed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path
    from types import TracebackType
    from typing import Self

READY_WITHIN = 40.0
"""Seconds; several processes start at once, on a machine that may be busy."""

_STOP_WITHIN = 8.0
_LOOK_EVERY = 0.02
_SAID = 30
_IMPORTED = [
    "numpy",
    "fi_stream.cli.app",
    "fi_stream.roles.aggregator",
    "fi_stream.roles.client",
    "fi_stream.roles.helper",
    "fi_stream.roles.participant",
    "opendp.prelude",
]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(_IMPORTED)
"""Forks each process from one that has imported it all: importing took longer than the schedule."""


@dataclass(slots=True)
class Life:
    """One process from its start to its end; its lines are what it said on `out` and `err`."""

    name: str
    process: ForkServerProcess
    out: Path
    err: Path
    ended: int | None = None
    pauses: list[Span] = field(default_factory=list)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it ended by itself just now."""
        if self.code() is None:
            os.kill(self.process.pid or 0, number)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of that event; one that was cut off by the end is left out."""
        lines = (self.out.read_text("utf-8") + self.err.read_text("utf-8")).splitlines()
        wanted = f'"event": "{name}"'
        return [json.loads(line) for line in lines if wanted in line and line.endswith("}")]

    def ready_since(self) -> int | None:
        """When it first said so, in milliseconds."""
        events = self.events("ready")
        if not events:
            return None
        return round(datetime.fromisoformat(events[0]["timestamp"]).timestamp() * 1000)

    def code(self) -> int | None:
        """How it ended; None while it runs, below 0 by a signal."""
        return self.process.exitcode

    def said(self) -> str:
        """Its last lines."""
        return "\n".join(_last_lines(self.err))


class Processes:
    """A context manager that ends every process it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lives: list[Life] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for life in self._running():
            life.process.kill()
            life.process.join()

    def start(self, name: str, words: Sequence[str]) -> Life:
        """Start `python -m WORDS`."""
        number = sum(life.name == name for life in self.lives)
        out, err = (self._folder / f"{name}.{number}.{kind}" for kind in ("out", "log"))
        out.touch()
        err.touch()
        process = _server.Process(target=_run, args=(list(words), str(out), str(err)), name=name)
        process.start()
        life = Life(name, process, out, err)
        self.lives.append(life)
        return life

    def of(self, name: str) -> Life:
        """The latest process of that name."""
        return next(life for life in reversed(self.lives) if life.name == name)

    def end(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the latest process of that name; a killed one is gone on return.

        Raises:
            BenchFailed: it had ended by itself, which none should.
        """
        life = self._alive(name)
        life.ended = now()
        life.send(number)
        if number is signal.SIGKILL:
            life.process.join()

    async def pause(self, name: str, until: Coroutine[Any, Any, None]) -> None:
        """Let the latest process of that name stand still until that has passed."""
        life, start = self._alive(name), now()
        life.send(signal.SIGSTOP)
        try:
            await until
        finally:
            life.send(signal.SIGCONT)
            life.pauses.append(Span(start, now()))

    async def ready(self, names: Sequence[str]) -> None:
        """Wait until the latest processes of these names say that they are ready.

        Raises:
            BenchFailed: one ended, or is not ready in time.
        """
        until = time.monotonic() + READY_WITHIN
        for name in names:
            life = self.of(name)
            while not life.events("ready"):
                if life.code() is not None or time.monotonic() > until:
                    raise BenchFailed(f"{name} is not ready, code {life.code()}:\n{life.said()}")
                await asyncio.sleep(_LOOK_EVERY)

    async def finished(self, name: str, within: float) -> None:
        """Wait until the latest process of that name ends by itself.

        Raises:
            BenchFailed: it did not in time, or failed.
        """
        life = self.of(name)
        until = time.monotonic() + within
        while life.code() is None and time.monotonic() < until:  # noqa: ASYNC110 -- a process
            await asyncio.sleep(_LOOK_EVERY)
        if life.code() != 0:
            raise BenchFailed(f"{name} did not finish, code {life.code()}:\n{life.said()}")

    async def stop(self) -> None:
        """Ask all to stop, and see that they do."""
        running = list(self._running())
        for life in running:
            life.ended = life.ended or now()
            life.process.terminate()
        until = time.monotonic() + _STOP_WITHIN
        while list(self._running()) and time.monotonic() < until:  # noqa: ASYNC110 -- processes
            await asyncio.sleep(_LOOK_EVERY)
        stuck = [life.name for life in self._running()]
        if stuck:
            raise BenchFailed(f"{', '.join(stuck)} did not stop within {_STOP_WITHIN:g} s")

    def spans(self, names: Sequence[str]) -> Iterator[Span]:
        """When processes of these names were ready, and not paused."""
        for life in self.lives:
            since = life.ready_since() if life.name in names else None
            if since is not None:
                yield from served([Span(since, life.ended or now())], life.pauses)

    def _alive(self, name: str) -> Life:
        life = self.of(name)
        if life.code() is not None:
            raise BenchFailed(f"{name} ended by itself, code {life.code()}:\n{life.said()}")
        return life

    def _running(self) -> Iterator[Life]:
        return (life for life in self.lives if life.code() is None)


def last_lines(folder: Path) -> dict[str, list[str]]:
    """What each process in that folder said last, by its name and number."""
    return {file.stem: _last_lines(file) for file in sorted(folder.glob("*.log"))}


def now() -> int:
    """Milliseconds since 1970; the broker is on this machine and reads the same clock."""
    return time.time_ns() // 1_000_000


def _last_lines(file: Path) -> list[str]:
    return file.read_text("utf-8", "replace").splitlines()[-_SAID:]


def _run(words: list[str], out: str, err: str) -> None:
    """Become `python -m WORDS`, in a session of its own: Ctrl+C reaches the harness alone."""
    os.setsid()
    for file, number in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
