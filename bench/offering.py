"""The client of the overload: finds the rate that is sustained, then offers a multiple of it.

It asks at fixed times, whatever comes back, and looks at each result as its user would.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import job
from bench.federated import CLIENT, FederatedAsker
from bench.load import Answers, Plan, run
from fi_stream.clock import SystemClock
from fi_stream.roles.again import GRACE
from fi_stream.roles.client import connect

if TYPE_CHECKING:
    from bench.setting import Setting
    from fi_stream.roles.client import Client
    from fi_stream.roles.result import Result

_WINDOW = 256
_TICK = 0.005
_AT_ONCE = 50
_SLACK_MS = 50.0
"""A busy loop may look at a result so much after it came."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What to offer: so many times the sustained rate, for so many seconds, with that deadline."""

    times: float
    seconds: float
    deadline: float
    finding_seconds: float


@dataclass(slots=True)
class Got:
    """What came of it; a query without a result in time is `none`.

    `reasons` are why participants are missing from results, and why queries were rejected.
    """

    rate: float = 0.0
    offered: float = 0.0
    queries: int = 0
    wrong: int = 0
    late: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


async def offer(setting: Setting, wanted: Offer) -> dict[str, Any]:
    """Find the rate, then offer too much."""
    got = Got()
    async with connect(setting.folder / CLIENT / "member.toml") as client:
        answers = Answers()
        finding = Plan(50.0, 0.5, (_WINDOW,), wanted.finding_seconds)
        found = await run(finding, FederatedAsker(client, answers), answers)
        got.rate = found["peaks"][0]["rate"]
        print("found", flush=True)
        await _too_much(client, got, wanted)
    counts = {"outcomes": dict(got.outcomes), "reasons": dict(got.reasons)}
    return {name: counts.get(name, getattr(got, name)) for name in Got.__slots__}


async def _too_much(client: Client, got: Got, wanted: Offer) -> None:
    clock, rate = SystemClock(), got.rate * wanted.times
    open_queries: set[asyncio.Future[Result]] = set()
    start = clock.monotonic()
    while (spent := clock.monotonic() - start) < wanted.seconds:
        for _ in range(min(_AT_ONCE, int(spent * rate) - got.queries)):
            index = got.queries % job.ROWS
            got.queries += 1
            result = client.post(job.questions().rows[index], deadline=wanted.deadline)
            open_queries.add(result)
            result.add_done_callback(open_queries.discard)
            result.add_done_callback(partial(_look, got, index, wanted.deadline))
        await asyncio.sleep(_TICK if got.queries >= int(spent * rate) else 0)
    got.offered = got.queries / (clock.monotonic() - start)
    if open_queries:
        await asyncio.wait(open_queries)


def _look(got: Got, index: int, deadline: float, future: asyncio.Future[Result]) -> None:
    result = future.result()
    got.outcomes["none" if result.outcome is None else result.outcome.value] += 1
    got.reasons.update(result.missing.values())
    if result.reason is not None:
        got.reasons[result.reason.value] += 1
    if result.outcome is None:
        return
    got.late += result.latency_ms > 1000 * (deadline + GRACE) + _SLACK_MS
    if result.decided is not None:
        got.wrong += int(result.decided.labels[0]) != job.questions().labels[index]
