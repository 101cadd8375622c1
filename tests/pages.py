"""Asking a role's one port, as a probe or a person does."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stage import Stage


def with_port(stage: Stage, member: str, port: int = 0) -> None:
    with stage.file(member).open("a") as file:
        file.write(f"\n[health]\nport = {port}\n")


def port_of(stage: Stage, member: str) -> int:
    """Of the member's last life."""
    number: int = stage.events("health.listening", member=member)[-1]["port"]
    return number


async def get(port: int, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        url = f"http://127.0.0.1:{port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def becomes(port: int, status: int, within: float = 60.0) -> Any:
    """What `/readyz` says once it answers so."""
    ends = time.monotonic() + within
    while True:
        answered, told = await get(port, "/readyz")
        if answered == status:
            return json.loads(told)
        assert time.monotonic() < ends, told
        await asyncio.sleep(0.2)
