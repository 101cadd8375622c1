"""The small HTTP server: fixed paths, bounded requests, and no way to hold it up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from fi_stream.errors import ConfigError
from fi_stream.roles import pages
from fi_stream.roles.pages import MOST_AT_ONCE, MOST_BYTES, Page, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = "127.0.0.1"


async def _well() -> Page:
    return Page(200, b"well\n")


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    async with serve(HERE, 0, {"/here": _well}) as port:
        yield port


async def send(port: int, request: bytes) -> bytes:
    """All that is answered, until the server closes."""
    reader, writer = await asyncio.open_connection(HERE, port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /here?x=1 HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /there HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /../here HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /here HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"405 Method Not Allowed"),
        (b"\x16\x03\x01 hello\r\n\r\n", b"400 Bad Request"),
        (b"GET /here\r\n\r\n", b"400 Bad Request"),
    ],
)
async def test_a_request_gets_one_answer_and_the_end(request_: bytes, status: bytes) -> None:
    async with serving() as port:
        head, _, body = (await send(port, request_)).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 " + status
        assert b"Content-Length: %d" % len(body) in lines
        assert b"Connection: close" in lines


async def test_a_request_without_end_is_refused_at_its_bound() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HERE, port)
        writer.write(b"GET /here HTTP/1.1\r\nX: " + b"x" * MOST_BYTES)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_who_says_nothing_is_let_go_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "WITHIN", 0.2)
    async with serving() as port:
        silent, writer = await asyncio.open_connection(HERE, port)
        writer.write(b"GET /here")
        assert b"200 OK" in await send(port, b"GET /here HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            assert await silent.read() == b""
        writer.close()


async def test_too_many_at_once_are_closed_and_the_next_is_served() -> None:
    async with serving() as port:
        held = [await asyncio.open_connection(HERE, port) for _ in range(MOST_AT_ONCE)]
        await asyncio.sleep(0)
        assert await send(port, b"") == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while True:
                try:
                    if b"200" in await send(port, b"GET /here HTTP/1.1\r\n\r\n"):
                        break
                except ConnectionError:
                    continue  # closed before it was read


async def test_the_end_waits_for_nobody() -> None:
    async with asyncio.timeout(2):
        async with serving() as port:
            reader, writer = await asyncio.open_connection(HERE, port)
            await asyncio.sleep(0.05)
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HERE, port)


async def test_a_port_that_is_taken_is_a_mistake_of_the_file() -> None:
    async with serving() as port:
        with pytest.raises(ConfigError, match=rf"\[health\].*{HERE} port {port}.*another port"):
            async with serve(HERE, port, {}):
                pass
    with pytest.raises(ConfigError, match=r"\[health\].*no\.such\.host\.invalid"):
        async with serve("no.such.host.invalid", 0, {}):
            pass
