"""The game that an audit plays: toss coins, ask rows, and keep what is seen of the answers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fi_stream.errors import NoResult
from fi_stream.events.payloads import Abstain, Answer, Outcome
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import to_array
from fi_stream.federation.roster import Role
from fi_stream.privacy.guesses import Played
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.client import seated
from fi_stream.roles.keys import Keys
from fi_stream.roles.participant import run_participant
from fi_stream.roles.runtime import background
from fi_stream.roles.seat import take_seat
from fi_stream.roles.tally import Tally
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Partition, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.roles.audit_federation import Game
    from fi_stream.roles.client import Client
    from fi_stream.transport.port import Reader

ROWS = 500
"""Of a query."""

_DEADLINE = 20.0
_START = 1.0
_PATIENCE = 60.0
_TRIES = 3


class Seen(NamedTuple):
    """What whoever is not to know sees of one query: labels [rows] or scores [rows, classes]."""

    values: NDArray[Any]
    scale: int | None = None


class _Asking(Protocol):
    async def ask(self, rows: NDArray[np.float32], seconds: float) -> Seen | None:
        """What is seen of a query of these rows; None when nothing came in time."""


async def play(
    game: Game,
    rows: int,
    predictions: NDArray[np.float64],
    told: Callable[[int, int], None] | None,
) -> Played:
    """Toss a coin for each row, ask, and keep what is seen.

    Args:
        game: as it was written.
        rows: how many.
        predictions: [2, classes], of the two worlds.
        told: is called with how many answers have come, and of how many.

    Raises:
        NoResult: there is no answer.
    """
    worlds = np.random.default_rng().integers(0, 2, rows).astype(np.bool_)
    most = max(1, min(ROWS, 100_000 // predictions.shape[1]))
    values: list[NDArray[Any]] = []
    scale, come = None, 0
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        works = {
            f"audit.participant-{number}": run_participant(file, stop)
            for number, file in enumerate(game.participants)
        }
        if game.aggregator is not None:
            works["audit.aggregator"] = run_aggregator(game.aggregator, stop)
        await stack.enter_async_context(background(works))
        asking: _Asking
        if game.reader is None:
            asking = _AsClient(await stack.enter_async_context(seated(game.asker)))
        else:
            asking = await stack.enter_async_context(_as_reader(game.asker, game.reader))
        await _begin(asking)
        for start in range(0, rows, most):
            seen = await _patiently(asking, worlds[start : start + most])
            values.append(seen.values)
            scale, come = seen.scale, come + len(seen.values)
            if told is not None:
                told(come, rows)
    return Played(worlds, predictions, np.concatenate(values), scale)


async def _begin(asking: _Asking) -> None:
    """Ask until everybody is there: nobody answers what was asked before."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _PATIENCE
    while loop.time() < ends:
        if await asking.ask(np.zeros((1, 1), np.float32), _START) is not None:
            return
    raise NoResult(f"nothing was answered within {_PATIENCE:g} s; see the log")


async def _patiently(asking: _Asking, worlds: NDArray[np.bool_]) -> Seen:
    rows = worlds.astype(np.float32)[:, None]
    for _ in range(_TRIES):
        seen = await asking.ask(rows, _DEADLINE)
        if seen is not None:
            return seen
    raise NoResult(
        f"{len(worlds)} rows were not answered within {_DEADLINE:g} s, {_TRIES} times: see the "
        "log, or try again when the machine has less to do"
    )


class _AsClient:
    """Sees results, as the client that asked."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, rows: NDArray[np.float32], seconds: float) -> Seen | None:
        result = await self._client.post(rows, deadline=seconds)
        if result.outcome != Outcome.COMPLETE or result.decided is None:
            return None
        return Seen(result.decided.labels)


class _AsReader:
    """Asks as the client, and opens what the participant says as the aggregator."""

    def __init__(self, client: Client, keys: Keys, reader: Reader) -> None:
        self._client = client
        self._keys = keys
        self._reader = reader

    async def ask(self, rows: NDArray[np.float32], seconds: float) -> Seen | None:
        loop = asyncio.get_running_loop()
        query = bytes.fromhex(self._client.post(rows, deadline=seconds).query_id)
        ends = loop.time() + seconds
        while loop.time() < ends:
            records = await self._reader.poll(0.05)
            for record in self._keys.take_released() + records:
                event = self._keys.gate.admit(record, "response")
                if event is None or isinstance(event, Refusal):
                    continue
                reply = event.header.reply
                if event.header.ask.query != query or reply is None:
                    continue
                if reply.kind == "answer":
                    return _of_answer(event.open(Answer))
                abstain = event.open(Abstain)
                if isinstance(abstain, Refusal) or abstain.reason == Reason.OVERLOADED.code:
                    return None
                raise NoResult(f"the participant abstains: {Reason.from_code(abstain.reason)}")
        return None


def _of_answer(answer: Answer | Refusal) -> Seen | None:
    if isinstance(answer, Refusal):
        return None
    found = to_array(answer.outputs[0])
    return None if isinstance(found, Refusal) else Seen(found, answer.scale)


@asynccontextmanager
async def _as_reader(asker: Path, reader_file: Path) -> AsyncIterator[_AsReader]:
    topic = catalogue().responses.name
    async with take_seat(Role.AGGREGATOR, reader_file) as seat, seated(asker) as client:
        keys = Keys(seat, Tally("audit"))
        count = await seat.transport.partition_count(topic)
        what = Assigned(frozenset(Partition(topic, number) for number in range(count)), Start.END)
        async with seat.transport.reader(what) as reader:
            await reader.starts()
            works = {
                "audit.grants": keys.read_grants(),
                "audit.announce": keys.keep_announcing(),
            }
            async with background(works):
                await keys.ready.wait()
                yield _AsReader(client, keys, reader)
