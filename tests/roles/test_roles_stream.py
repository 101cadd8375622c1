"""What a client may count on: every ask is answered, streams are bounded, mistakes are told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stage import names_of, rows

from fi_stream import NoResult, QueryError, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stage import Stage

CONNECTS = 10
ASKS = 50


async def test_each_of_500_asks_at_once_after_connect_gets_its_result(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(ASKS)
    async with stage.running("agg", "p1", "p2", "p3"):
        for _ in range(CONNECTS):
            async with connect(stage.file("alice")) as client:
                asked = [client.post(row, deadline=10.0) for row in drawn]
                results = await asyncio.gather(*asked)
            assert [result.outcome for result in results] == ["complete"] * ASKS
            assert [result.labels for result in results] == [[name] for name in names_of(drawn)]


async def test_a_result_says_what_and_from_whom(build: Callable[..., Stage]) -> None:
    stage, drawn = build(), rows(3)
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        result = await client.ask(drawn)
    said = result.to_dict()
    assert said["outcome"] == "complete"
    assert said["labels"] == names_of(drawn)
    assert [one["member"] for one in said["contributors"]] == ["p1", "p2", "p3"]
    assert said["missing"] == {}
    assert said["privacy"]["epsilon"]["per_query"] == "infinite"
    assert 0 < said["latency_ms"] < 10_000


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stream_yields_each_result_once_and_never_has_more_open_than_allowed(
    build: Callable[..., Stage], *, ordered: bool
) -> None:
    stage, drawn = build(), rows(40)
    taken: list[str] = []
    open_at_most = 0

    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:

        def counted() -> Any:
            nonlocal open_at_most
            for number, row in enumerate(drawn, 1):
                open_at_most = max(open_at_most, number - len(taken))
                yield row

        stream = client.stream(counted(), in_flight=4, ordered=ordered, deadline=5.0)
        async for result in stream:
            taken += result.labels
    if ordered:
        assert taken == names_of(drawn)
    assert sorted(taken) == sorted(names_of(drawn))
    assert 2 <= open_at_most <= 5  # the fifth was drawn, and waits until one is taken


async def test_a_live_stream_gets_each_result_before_the_next_row_comes(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(), rows(3)
    answered = asyncio.Event()

    async def live() -> AsyncIterator[np.ndarray[Any, Any]]:
        for row in drawn:
            answered.clear()
            yield row
            async with asyncio.timeout(5):
                await answered.wait()

    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        async for result in client.stream(live(), deadline=5.0):
            assert result.outcome == "complete"
            answered.set()


async def test_a_stream_ends_with_what_its_rows_raise_after_the_results_before(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        stream = client.stream([rows(1), rows(1), [np.nan] * 4, rows(1)], deadline=5.0)
        taken = [(await anext(stream)).outcome, (await anext(stream)).outcome]
        assert taken == ["complete", "complete"]
        with pytest.raises(QueryError, match="NaN or infinity"):
            await anext(stream)
        with pytest.raises(QueryError, match="at least one"):
            async for _ in client.stream(rows(2), in_flight=0):
                pass


async def test_leaving_a_stream_early_leaves_the_client_usable(build: Callable[..., Stage]) -> None:
    stage = build()
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        async for _ in client.stream(rows(100), in_flight=8):
            break
        assert (await client.ask(rows(1))).outcome == "complete"


async def test_without_an_aggregator_ask_says_what_to_do_and_a_stream_goes_on(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with stage.running("p1", "p2", "p3"), connect(stage.file("alice")) as client:
        begun = time.monotonic()
        with pytest.raises(NoResult, match="aggregator and enough participants running"):
            await client.ask(rows(1), deadline=0.1)
        assert time.monotonic() - begun < 3.0
        outcomes = [result.outcome async for result in client.stream(rows(3), deadline=0.1)]
        assert outcomes == [None] * 3


async def test_leaving_gives_up_what_is_open(build: Callable[..., Stage]) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        asked = client.post(rows(1), deadline=20.0)
    assert asked.result().outcome is None


async def test_what_the_block_of_connect_raises_comes_out_as_it_is(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    with pytest.raises(NoResult):
        async with connect(stage.file("alice")) as client:
            await client.ask(rows(1), deadline=0.05)
    with pytest.raises(ZeroDivisionError):
        async with connect(stage.file("alice")):
            raise ZeroDivisionError


async def test_a_query_that_cannot_be_is_refused_before_anything_is_sent(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        for deadline in (0, -1, float("nan"), float("inf"), 31):
            with pytest.raises(QueryError, match="deadline"):
                client.post(rows(1), deadline=deadline)
        with pytest.raises(QueryError, match="shape"):
            await client.ask(np.zeros(3))
        with pytest.raises(QueryError, match="1025 rows"):
            client.post(np.zeros((1025, 4)))
        with pytest.raises(QueryError, match="not in the policy"):
            client.post(rows(1), rule="loudest")


async def test_any_memory_layout_and_byte_order_is_the_same_query(
    build: Callable[..., Stage],
) -> None:
    stage, plain = build(), rows(6)
    wide = np.zeros((6, 8), dtype=np.float32)
    wide[:, ::2] = plain
    layouts = {
        "transposed": plain.T.copy().T,
        "strided": wide[:, ::2],
        "reversed": plain[::-1].copy()[::-1],
        "fortran": np.asfortranarray(plain),
        "big-endian": plain.astype(">f4"),
        "doubles": plain.astype(np.float64),
        "lists": plain.tolist(),
        "by name": {"x": plain},
    }
    async with stage.running("agg", "p1", "p2", "p3"), connect(stage.file("alice")) as client:
        expected = (await client.ask(plain)).decided
        for name, layout in layouts.items():
            decided = (await client.ask(layout)).decided
            assert np.array_equal(decided.scores, expected.scores), name
