"""Topics that do not fit each other are refused at start, with the numbers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import stage as staging

from fi_stream import ConfigError, TopicError, connect
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.participant import run_participant
from fi_stream.transport import embedded
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stage import Stage


async def test_every_role_refuses_unequal_partition_counts_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = catalogue()
    results = whole.results.model_copy(update={"partitions": 8})
    unequal = whole.model_copy(update={"results": results})
    monkeypatch.setattr(embedded, "catalogue", lambda: unequal)
    with embedded.EmbeddedBroker() as broker:
        stage = staging.build(tmp_path / "federation", broker.bootstrap)
        says = r"fi\.results has 8 partitions and fi\.queries has 4.*topics apply"
        with pytest.raises(TopicError, match=says):
            await run_participant(stage.file("p1"), asyncio.Event())
        with pytest.raises(TopicError, match=says):
            await run_aggregator(stage.file("agg"), asyncio.Event())
        with pytest.raises(TopicError, match=says):
            async with connect(stage.file("alice")):
                pass


async def test_a_role_refuses_to_send_smaller_events_than_the_policy_allows(
    build: Callable[..., Stage],
) -> None:
    stage = build(kafka="message.max.bytes = 900000")
    with pytest.raises(ConfigError, match=r"message\.max\.bytes.*900000.*1004096"):
        await run_aggregator(stage.file("agg"), asyncio.Event())


async def test_a_member_does_not_run_a_role_that_the_roster_does_not_give_it(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    with pytest.raises(ConfigError, match="alice is no aggregator in the roster"):
        await run_aggregator(stage.file("alice"), asyncio.Event())
    with pytest.raises(ConfigError, match="agg is no client in the roster"):
        async with connect(stage.file("agg")):
            pass
    file = stage.file("agg")
    file.write_text(file.read_text().replace("[member]", '[member]\nrole = "client"'))
    with pytest.raises(ConfigError, match="agg is no client in the roster"):
        await run_aggregator(file, asyncio.Event())
