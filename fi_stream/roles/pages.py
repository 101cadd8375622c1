"""A few fixed pages over HTTP: GET alone, a bounded request, one answer, then the end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

MOST_BYTES: Final = 8192
"""Of one request's head."""

WITHIN: Final = 5.0
"""Seconds for one request and its answer."""

MOST_AT_ONCE: Final = 16
"""Connections; one more is closed at once."""

_WORDS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"


@asynccontextmanager
async def serve(
    host: str, port: int, pages: Mapping[str, Callable[[], Awaitable[Page]]]
) -> AsyncIterator[int]:
    """Answer for these paths while the block runs; gives the port, which for 0 is any free one.

    Raises:
        ConfigError: nothing can listen there.
    """
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        if this is None or len(talking) >= MOST_AT_ONCE:
            writer.close()
            return
        talking.add(this)
        try:
            async with asyncio.timeout(WITHIN):
                writer.write(_wire(await _answer(reader, pages)))
                await writer.drain()
        except (OSError, TimeoutError, EOFError):
            pass  # whoever asked is gone, or too slow
        finally:
            talking.discard(this)
            writer.close()

    try:
        server = await asyncio.start_server(talk, host, port, limit=MOST_BYTES, backlog=64)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"[health]: nothing can listen on {host} port {port} ({error}). Choose another port, "
            "or 0 for any free one; host is an address of this machine."
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talking:
            task.cancel()
        if talking:
            await asyncio.wait(talking)


async def _answer(
    reader: asyncio.StreamReader, pages: Mapping[str, Callable[[], Awaitable[Page]]]
) -> Page:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Page(400, f"a request has at most {MOST_BYTES} bytes\n".encode())
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return Page(400, b"not an HTTP request\n")
    method, target, _ = words
    if method != b"GET":
        return Page(405, b"GET alone\n")
    page = pages.get(target.split(b"?", 1)[0].decode("latin-1"))
    if page is None:
        return Page(404, f"here are {', '.join(pages)}\n".encode())
    return await page()


def _wire(page: Page) -> bytes:
    head = (
        f"HTTP/1.1 {page.status} {_WORDS[page.status]}\r\nContent-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + page.body
