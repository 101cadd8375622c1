"""Running one role as a process: signals ask it to stop, and its tasks have one owner."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import structlog

from fi_stream.roles.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

_log = structlog.get_logger("process")

GRACE = 5.0
"""Seconds that a role has to finish what is in hand once it was asked to stop."""


def run_role(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a role until it ends or is asked to stop; a second signal ends the process at once."""
    configure_logs()
    asyncio.run(_run(role))


async def with_helpers(
    main: Awaitable[None], helpers: dict[str, Coroutine[Any, Any, None]]
) -> None:
    """Run a role's loop with the tasks it needs; they end when it does, and it when one fails."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(helper, name=name) for name, helper in helpers.items()]
        try:
            await main
        finally:
            for task in running:
                task.cancel()


async def _run(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()

    def asked(number: signal.Signals) -> None:
        _log.info("stopping", signal=number.name)
        stop.set()
        loop.remove_signal_handler(number)
        if this is not None:
            loop.call_later(GRACE, this.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)
    with contextlib.suppress(asyncio.CancelledError):
        await role(stop)
