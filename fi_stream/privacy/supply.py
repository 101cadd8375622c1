"""Noise from a process of its own, there before it is needed (DESIGN 10).

A thread keeps a stock of every kind that was asked for: it asks the process, one block at a time,
and whoever waits goes first. A stock that runs low becomes larger. It is memory of this process.
When the other dies it is started anew; whoever needs noise meanwhile, or before it is up, draws it
here.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from fi_stream.privacy.drawing import NUMBER, asked_for
from fi_stream.privacy.draws import Gaussians, Kind, Offsets, Places, draw
from fi_stream.privacy.forks import forget_in_children

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Self

    from numpy.typing import NDArray

PATIENCE: Final = 0.5
"""Seconds without new noise after which whoever waits draws for itself."""

MOST_KINDS: Final = 256
"""Kinds that are kept in stock; beyond, the one that was not asked for longest is dropped."""

_AHEAD: Final = {Offsets: 2_048, Gaussians: 8_192, Places: 256}
"""Draws in stock at first: quickly drawn, so that roles which start together do not wait for it."""

_MOST_AHEAD: Final = {Offsets: 32_768, Gaussians: 65_536, Places: 256}
"""Draws in stock where it runs low: about a second of drawing."""

_BLOCKS: Final = {Offsets: 512, Gaussians: 1_024, Places: 256}
"""Draws asked for at once: about 15 ms, so that nobody waits long behind a block."""

_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_STOP_WITHIN: Final = 2.0


class Watcher(Protocol):
    """Is told what happens to the process; called from any thread."""

    def died(self, code: int | None) -> None:
        """It ended with this code, and is started anew."""

    def drawn_here(self, count: int) -> None:
        """So many draws had to be made in this process, because none came from the other."""


@dataclass(slots=True)
class _Stock:
    """Of one kind: what is there, how much is to be there, and for how many somebody waits.

    `filled` is whether as much was there as is to be, since that last changed.
    """

    ahead: int
    filled: bool = False
    there: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    asked: int = 0
    wanted: int = 0
    arrivals: int = 0


class NoiseProcess:
    """A source of noise; a context manager that owns the process and the thread.

    Args:
        watcher: is told what happens.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._stocks: OrderedDict[Kind, _Stock] = OrderedDict()
        self._alive = False
        self._lived = False
        self._closing = False
        forget_in_children(self)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._keep_supplying, name="noise", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def take(self, kind: Kind, count: int) -> NDArray[np.int64]:
        """That many draws of a kind; asking for none has it put in stock."""
        with self._changed:
            stock = self._stock(kind)
            stock.asked += 1
            seen, waits = stock.arrivals, False
            while len(stock.there) < count and self._alive and not self._closing:
                stock.wanted, waits = count, True
                self._changed.notify_all()
                arrived = self._changed.wait_for(partial(self._news, stock, seen, count), PATIENCE)
                if not arrived:
                    break
                seen = stock.arrivals
            if waits:
                stock.wanted = 0
            taken, stock.there = stock.there[:count], stock.there[count:]
            if stock.filled and len(stock.there) < stock.ahead // 4:
                # Not while it is filled at first: each early answer would make it larger.
                stock.ahead = min(2 * stock.ahead, _MOST_AHEAD[type(kind)])
                stock.filled = False
            if len(stock.there) < stock.ahead:
                self._changed.notify_all()
            lived = self._lived
        missing = count - len(taken)
        if missing == 0:
            return taken
        if lived:  # at the start it is what must be
            self._watcher.drawn_here(missing)
        return np.concatenate([taken, draw(kind, missing)])

    def close(self) -> None:
        """End the process and the thread; what is in stock is dropped."""
        with self._changed:
            self._closing = True
            self._stocks.clear()
            self._changed.notify_all()
            if self._process is not None:
                self._process.kill()  # it has nothing to finish; the thread sees its end
        if self._thread is not None:
            self._thread.join()

    def forget(self) -> None:
        """In a forked child: the process and its noise are the parent's; draw here."""
        process, self._process, self._thread = self._process, None, None
        self._changed = threading.Condition()
        self._stocks = OrderedDict()
        self._alive = self._lived = False
        if process is not None:
            process.returncode = 0  # it is no child of ours to wait for
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _stock(self, kind: Kind) -> _Stock:
        stock = self._stocks.setdefault(kind, _Stock(_AHEAD[type(kind)]))
        self._stocks.move_to_end(kind)
        while len(self._stocks) > MOST_KINDS:
            self._stocks.popitem(last=False)
        return stock

    def _news(self, stock: _Stock, seen: int, count: int) -> bool:
        gone = self._closing or not self._alive
        return gone or len(stock.there) >= count or stock.arrivals > seen

    def _keep_supplying(self) -> None:
        """Own the process: start it, ask it, and start it again when it dies."""
        pause = 0.0
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, pause):
                    return
                process = self._process = _start()
            supplied = self._supply(process)
            _end(process)
            with self._changed:
                self._alive = False
                self._process = None
                self._changed.notify_all()
                if self._closing:
                    return
            self._watcher.died(process.returncode)
            pause = 0.0 if supplied else min(_LONGEST_PAUSE, 2 * pause or _PAUSE)

    def _supply(self, process: subprocess.Popen[bytes]) -> int:
        """Ask the process for what is missing until one of us ends; how many blocks came."""
        blocks = 0
        while True:
            with self._changed:
                while (lacking := self._lacking()) is None and not self._closing:
                    self._changed.wait()
                if self._closing or lacking is None:
                    return blocks
            kind, stock, count = lacking
            numbers = _asked(process, kind, count)
            if numbers is None:
                return blocks
            blocks += 1
            with self._changed:
                self._alive = self._lived = True
                stock.there = np.concatenate([stock.there, numbers])
                stock.arrivals += 1
                stock.filled = stock.filled or len(stock.there) >= stock.ahead
                self._changed.notify_all()

    def _lacking(self) -> tuple[Kind, _Stock, int] | None:
        """What to ask for next: for whoever waits, else the kind that is emptiest."""
        most: tuple[float, Kind, _Stock] | None = None
        for kind, stock in self._stocks.items():
            lacks = stock.wanted - len(stock.there)
            if lacks > 0:
                return kind, stock, min(lacks, 8 * _BLOCKS[type(kind)])
            # Votes that came once may never come again.
            if len(stock.there) < stock.ahead and (stock.asked > 1 or not isinstance(kind, Places)):
                share = len(stock.there) / stock.ahead
                if most is None or share < most[0]:
                    most = share, kind, stock
        return None if most is None else (most[1], most[2], _BLOCKS[type(most[1])])


def _start() -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl+C in a terminal is for the owner, who ends it in order.
    return subprocess.Popen(
        [sys.executable, "-m", "fi_stream.privacy.drawing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


def _asked(process: subprocess.Popen[bytes], kind: Kind, count: int) -> NDArray[np.int64] | None:
    """Numbers from the process; None when it is gone."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(asked_for(kind, count))
        data = _whole(process.stdout, count * NUMBER.itemsize)
    except (OSError, ValueError):  # ValueError: closed by us meanwhile
        return None
    return None if data is None else np.frombuffer(data, dtype=NUMBER).astype(np.int64)


def _whole(pipe: IO[bytes], size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        more = pipe.read(size - len(data))
        if not more:
            return None
        data += more
    return bytes(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, at the end of its input; else end it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
