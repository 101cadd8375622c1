"""Running one role as a process: signals ask it to stop, and its tasks have one owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import asynccontextmanager
from threading import Timer
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.errors import NotFinished
from fi_stream.roles.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from typing import Any

_log = structlog.get_logger("process")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE: Final = 5.0
"""Seconds that a role has to finish what is in hand once it was asked to stop."""

LEAVE: Final = 2.0
"""Seconds after these in which it may still let go of its broker and its files."""


def run_role(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a role until it ends or is asked to stop; a second signal ends the process at once.

    Raises:
        NotFinished: it was asked to stop, and something in hand took longer than the grace time.
    """
    configure_logs()
    asyncio.run(_run(role))


@asynccontextmanager
async def background(works: dict[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run the tasks that a role needs; they end when the block does, and it when one fails.

    Raises:
        ExceptionGroup: more than one thing failed. What failed alone is raised as it is, so that
            whoever uses the block may catch it by its name.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work, name=name) for name, work in works.items()]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        alone = group.exceptions[0]
        raise alone from alone.__cause__


@asynccontextmanager
async def interruptible(stop: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the block as soon as a stop is asked for: nothing is in hand in it yet."""
    this = asyncio.current_task()

    async def watch() -> None:
        await stop.wait()
        if this is not None:
            this.cancel()

    watching = asyncio.create_task(watch(), name="interruptible")
    try:
        yield
    finally:
        watching.cancel()


async def _run(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(role(stop))
    last = Timer(GRACE + LEAVE, _end_at_once)
    last.daemon = True
    late = False

    def asked(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name, grace=GRACE)
        stop.set()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        loop.call_later(GRACE, give_up)
        last.start()

    def give_up() -> None:
        nonlocal late
        late = work.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, asked, number)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    if late:
        # `last` goes on: a thread that hangs keeps the interpreter from ending by itself.
        raise NotFinished(
            f"what was in hand was not finished within {GRACE:g} s of the signal, and is left as a "
            "crash would leave it: look at what the log last said, and at the model."
        )
    last.cancel()


def _end_at_once() -> None:
    """End a process that nothing else ends, such as one whose model never returns."""
    _log.error("stop.forced", after=GRACE + LEAVE)
    os._exit(NotFinished.exit_code)
