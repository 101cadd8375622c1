"""More than fi_stream can do: twice its sustained rate, for a minute, on Apache Kafka.

Its roles are processes, as anybody runs them. What must hold: they stay alive and as large as they
were; the answers that come are right and in time; and every query that was appended before its
deadline has one outcome on the topic of results.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final

from bench import federated, job
from bench.federated import AGGREGATOR, Variant
from bench.memory import resident
from bench.offering import Offer
from bench.outcomes import outcomes
from bench.rounds import BenchFailed, Processes
from bench.topics import make_fresh_catalogue
from fi_stream.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.outcomes import Outcomes
    from bench.setting import Setting

WHOLE = Offer(times=2.0, seconds=60.0, deadline=2.0, finding_seconds=5.0)
QUICK = Offer(times=2.0, seconds=4.0, deadline=1.0, finding_seconds=1.0)

MOST_GROWTH: Final = 64 * 2**20
"""Bytes by which a process may grow: work in hand has bounds, and these fill up."""

_SAMPLE_EVERY = 0.5
_CLIENT_WITHIN = 120.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of one process: as the overload began, at the most, when it was over."""

    start: int
    most: int
    end: int


@dataclass(frozen=True, slots=True)
class Overloaded:
    """All that was seen: what the client got, what the topics say, how the roles fared."""

    client: Mapping[str, Any]
    topics: Outcomes
    memory: Mapping[str, Memory]
    dead: tuple[str, ...]


def overload(setting: Setting, wanted: Offer) -> Overloaded:
    """Run it.

    Raises:
        BenchFailed: the client measured nothing.
    """
    federated.make(setting, Variant())
    ports = {name: _with_health(setting, name) for name in (AGGREGATOR, *_participants())}
    asyncio.run(make_fresh_catalogue(setting))
    processes = Processes("sealed", setting, {})
    try:
        for name in ports:
            processes.start(name, {})
        processes.start("offer", {"offer": asdict(wanted)}, subprocess.PIPE)
        client, memory = _watched(processes, wanted)
        topics = asyncio.run(outcomes(setting.bootstrap))
        dead = tuple(name for name, port in ports.items() if not _alive(processes, name, port))
    finally:
        processes.stop()
    return Overloaded(client, topics, memory, dead)


def _participants() -> list[str]:
    return [f"p{number}" for number in job.participants()]


def _with_health(setting: Setting, member: str) -> int:
    """Give a role a port of its own for `/livez`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with (setting.folder / member / "member.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[health]\nport = {port}\n")
    return port


def _alive(processes: Processes, name: str, port: int) -> bool:
    if processes.running[name].poll() is not None:
        return False
    asking = HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        asking.request("GET", "/livez")
        return asking.getresponse().status == 200
    except OSError:
        return False
    finally:
        asking.close()


def _watched(processes: Processes, wanted: Offer) -> tuple[dict[str, Any], dict[str, Memory]]:
    """Let the client do its work, and look at everybody's memory meanwhile."""
    client = processes.running["offer"]
    said: list[bytes] = []
    reading = threading.Thread(target=lambda: said.extend(client.stdout or ()), name="offer")
    reading.start()
    sizes: dict[str, list[int]] = {name: [] for name in processes.running}
    clock = SystemClock()
    end = clock.monotonic() + _CLIENT_WITHIN + wanted.seconds
    while reading.is_alive() and clock.monotonic() < end:
        reading.join(_SAMPLE_EVERY)
        if said:  # the rate was found: it begins
            for name, process in processes.running.items():
                if size := resident(process.pid):
                    sizes[name].append(size)
    if len(said) < 2:
        raise BenchFailed(f"the client offered nothing.\n{processes.said('offer')}")
    memory = {name: Memory(seen[0], max(seen), seen[-1]) for name, seen in sizes.items() if seen}
    return json.loads(said[-1]), memory
