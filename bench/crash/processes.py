"""The processes of one schedule: started, killed, started again, and none left behind."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.crash.history import Span
from bench.crash.service import served
from bench.rounds import BenchFailed
from bench.setting import environment

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from types import TracebackType
    from typing import Self

READY_WITHIN = 40.0
"""Seconds; several processes start at once, on a machine that may be busy."""

_STOP_WITHIN = 8.0
_LOOK_EVERY = 0.05
_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Life:
    """One process from its start to its end; its lines are what it said on `out` and `err`."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    ended: int | None = None
    pauses: list[Span] = field(default_factory=list)

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

    def said(self) -> list[str]:
        """Its last lines."""
        return self.err.read_text("utf-8").splitlines()[-30:]


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
            life.process.wait()

    def start(self, name: str, words: Sequence[str]) -> Life:
        """Start `python -m WORDS`."""
        number = sum(life.name == name for life in self.lives)
        out, err = (self._folder / f"{name}.{number}.{kind}" for kind in ("out", "log"))
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=_ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,  # Ctrl+C reaches us alone
            )
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
        life.process.send_signal(number)
        if number is signal.SIGKILL:
            life.process.wait()

    async def pause(self, name: str, until: Coroutine[Any, Any, None]) -> None:
        """Let the latest process of that name stand still until that has passed."""
        life, start = self._alive(name), now()
        life.process.send_signal(signal.SIGSTOP)
        try:
            await until
        finally:
            life.process.send_signal(signal.SIGCONT)
            life.pauses.append(Span(start, now()))

    async def ready(self, names: Sequence[str]) -> None:
        """Wait until the latest processes of these names say that they are ready.

        Raises:
            BenchFailed: one ended, or is not ready in time.
        """
        until = time.monotonic() + READY_WITHIN
        for life in map(self.of, names):
            while not life.events("ready"):
                if life.process.poll() is not None or time.monotonic() > until:
                    why = "\n".join(life.said())
                    raise BenchFailed(
                        f"{life.name} is not ready, code {life.process.poll()}:\n{why}"
                    )
                await asyncio.sleep(_LOOK_EVERY)

    async def finished(self, name: str, within: float) -> None:
        """Wait until the latest process of that name ends by itself.

        Raises:
            BenchFailed: it did not in time, or failed.
        """
        life = self.of(name)
        until = time.monotonic() + within
        while life.process.poll() is None and time.monotonic() < until:  # noqa: ASYNC110 -- a process
            await asyncio.sleep(_LOOK_EVERY)
        if life.process.poll() != 0:
            why = "\n".join(life.said())
            raise BenchFailed(f"{name} did not finish, code {life.process.poll()}:\n{why}")

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
        if life.process.poll() is not None:
            raise BenchFailed(f"{name} ended by itself:\n" + "\n".join(life.said()))
        return life

    def _running(self) -> Iterator[Life]:
        return (life for life in self.lives if life.process.poll() is None)


def now() -> int:
    """Milliseconds since 1970; the broker is on this machine and reads the same clock."""
    return time.time_ns() // 1_000_000
