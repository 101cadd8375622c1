"""Queries under `secagg`, answered end to end on the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from stage import at_work, names_of, rows

from fi_stream import connect
from fi_stream.events.payloads import Outcome
from fi_stream.federation.policy import Protection, SecaggPolicy

if TYPE_CHECKING:
    from pathlib import Path

EVERYONE = ("p1", "p2", "p3", "agg", "helper")
SECAGG: dict[str, Any] = {
    "protections": (Protection.SECAGG,),
    "rules": ("soft", "hard", "entropy"),
    "secagg": SecaggPolicy(k_min=2),
}


async def test_a_query_is_answered_by_all_and_opened_by_its_client_alone(tmp_path: Path) -> None:
    asked = rows(3)
    async with (
        at_work(tmp_path, *EVERYONE, policy=SECAGG) as stage,
        connect(stage.file("alice")) as client,
    ):
        for rule in SECAGG["rules"]:
            result = await client.ask(asked, deadline=5.0, rule=rule)
            assert result.outcome is Outcome.COMPLETE
            assert result.labels == names_of(asked)
            assert [one.member for one in result.contributors] == ["p1", "p2", "p3"]
            assert result.decided is not None
            assert np.allclose(result.decided.scores.sum(axis=1), 1.0)
        assert client.refusals == {}
