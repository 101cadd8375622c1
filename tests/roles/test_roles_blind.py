"""Queries under `blind`: only the client that asked reads the answers, and it decides by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage import names_of, rows

from fi_stream import QueryError, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage import Stage

EVERYONE = ("agg", "p1", "p2", "p3")
BOTH = {"protections": ("trusted", "blind")}


async def test_a_client_decides_from_answers_that_the_aggregator_relayed(
    build: Callable[..., Stage],
) -> None:
    stage, drawn = build(policy=BOTH), rows(3)
    async with stage.running(*EVERYONE), connect(stage.file("alice")) as client:
        result = await client.ask(drawn, deadline=5.0, protection="blind")
        assert result.outcome == "complete"
        assert result.labels == names_of(drawn)
        assert [one.member for one in result.contributors] == ["p1", "p2", "p3"]
        trusted = await client.ask(drawn, deadline=5.0)
        assert trusted.guarantee.protection == "trusted"
    assert result.guarantee.protection == "blind"
    assert result.decided.scores.tobytes() == trusted.decided.scores.tobytes()
    assert [one.model for one in result.contributors] == [one.model for one in trusted.contributors]


async def test_a_protection_that_the_policy_does_not_allow_is_refused_before_anything_is_sent(
    build: Callable[..., Stage],
) -> None:
    stage = build()
    async with connect(stage.file("alice")) as client:
        with pytest.raises(QueryError, match="protection 'blind' is not in the policy: trusted"):
            client.post(rows(1), protection="blind")
