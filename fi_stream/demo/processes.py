"""The demo's other processes: started together, watched until ready, and never left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from fi_stream.errors import BrokerError, FiStreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fi_stream.clock import Clock

READY_WITHIN = 90.0
"""Seconds; Apache Kafka may have to be fetched first."""

STOP_WITHIN = 5.0
_LOOK_EVERY = 0.02
_STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    output: Path
    log: Path


class Processes:
    """`fi-stream` verbs as child processes; a context manager that ends every one of them."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._children: list[_Child] = []
        self._pause = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _not_interrupted():
            self.stop()

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start `fi-stream WORDS`."""
        output, log = (self._directory / f"{name}.{kind}" for kind in ("out", "log"))
        # A signal between the fork and our noting the child would leave it behind.
        with _not_interrupted(), output.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(  # noqa: S603 -- our own verbs
                [sys.executable, "-m", "fi_stream.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl+C reaches us alone, and we stop them in order
            )
            self._children.append(_Child(name, process, output, log))

    def first_line(self, name: str) -> str:
        """What that process prints first; waits for it."""
        line: str = self._await(name, lambda child: _first_line(child.output))
        return line

    def ready(self, name: str) -> None:
        """Wait until that role says in its log that it is ready."""
        self._await(name, lambda child: _events(child.log, "ready"))

    def finished(self, name: str) -> None:
        """Wait until that process ends by itself."""
        child = next(child for child in self._children if child.name == name)
        if child.process.wait(READY_WITHIN) != 0:
            raise FiStreamError(f"{name} failed:\n{_tail(child.log)}")

    def stop(self) -> dict[str, dict[str, Any]]:
        """Stop all; returns what each role logged as it stopped.

        The first of all, the broker, goes last: the others finish with it what they have in hand.
        """
        self._end(self._children[1:])
        self._end(self._children[:1])
        said = {child.name: _events(child.log, "stopped") for child in self._children}
        self._children = []
        return {name: events[-1] for name, events in said.items() if events}

    def _end(self, children: Sequence[_Child]) -> None:
        for child in children:
            child.process.terminate()
        until = self._clock.monotonic() + STOP_WITHIN
        for child in children:
            try:
                child.process.wait(max(0.1, until - self._clock.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def _await(self, name: str, look: Any) -> Any:
        child = next(child for child in self._children if child.name == name)
        until = self._clock.monotonic() + READY_WITHIN
        while not (found := look(child)):
            if child.process.poll() is not None:
                raise FiStreamError(f"{name} ended early:\n{_tail(child.log)}")
            if self._clock.monotonic() > until:
                raise BrokerError(
                    f"{name} is not ready after {READY_WITHIN:g} s:\n{_tail(child.log)}"
                )
            self._pause.wait(_LOOK_EVERY)
        return found


def _first_line(file: Path) -> str | None:
    text = file.read_text("utf-8")
    return text.partition("\n")[0] if "\n" in text else None


def _events(file: Path, name: str) -> list[dict[str, Any]]:
    lines = [line for line in file.read_text("utf-8").splitlines() if f'"event": "{name}"' in line]
    return [json.loads(line) for line in lines]


def _tail(file: Path) -> str:
    return "\n".join(file.read_text("utf-8").splitlines()[-5:])


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Hold signals back until the work is done; they are delivered then.

    With handlers, not a mask: a child would inherit the mask and never hear its own SIGTERM.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
