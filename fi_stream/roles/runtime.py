"""Running one role as a process: signals ask it to stop, and its tasks have one owner."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from fi_stream.roles.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from typing import Any

_log = structlog.get_logger("process")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE = 5.0
"""Seconds that a role has to finish what is in hand once it was asked to stop."""


def run_role(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a role until it ends or is asked to stop; a second signal ends the process at once."""
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
    this = asyncio.current_task()

    def asked(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        stop.set()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if this is not None:
            loop.call_later(GRACE, this.cancel)

    for number in _SIGNALS:
        loop.add_signal_handler(number, asked, number)
    with contextlib.suppress(asyncio.CancelledError):
        await role(stop)
