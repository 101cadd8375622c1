from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import costs, overload, standing
from bench.load import Plan
from bench.offering import Offer
from bench.rounds import measure
from bench.setting import Setting
from fi_stream.transport.apache import ApacheBroker, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of its own: the bench deletes topics, which no broker of somebody's should see.
needs_kafka = pytest.mark.skipif(missing() is not None, reason=f"no Apache Kafka: {missing()}")

PLAN = Plan(rate=50.0, light_seconds=0.4, windows=(16,), peak_seconds=0.2)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with ApacheBroker() as running:
        yield running.bootstrap


@pytest.mark.kafka
@needs_kafka
@pytest.mark.parametrize(
    ("pipeline", "wrong"),
    # noise is there to be wrong at times
    [
        ("bare", 0),
        ("faststream", 0),
        ("noised", 2),
        ("gaussian", 12),
        ("shards", 2),
        ("central", 2),
    ],
)
def test_every_pipeline_answers_all_queries_rightly(
    pipeline: str, wrong: int, broker: str, tmp_path: Path
) -> None:
    setting = Setting(broker, f"test-{pipeline}", tmp_path / pipeline)
    measured = measure(pipeline, setting, PLAN)
    light = measured.light
    assert light.right + light.wrong == 20
    assert light.wrong <= wrong
    assert measured.peaks[0].right > measured.peaks[0].wrong


def test_costs_are_measured_for_every_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_QUERIES", 20)
    monkeypatch.setattr(costs, "_TIMES", 1)
    steps = costs.measure()
    assert {step.role for step in steps} == {"client", "participant", "aggregator"}
    assert all(step.micros > 0 for step in steps)
    assert costs.per_response(steps) > 0


@pytest.mark.kafka
@needs_kafka
def test_twice_the_sustained_rate_leaves_no_query_without_an_outcome(
    broker: str, tmp_path: Path
) -> None:
    wanted = Offer(times=2.0, seconds=1.0, deadline=1.0, finding_seconds=0.3)
    seen = overload.overload(Setting(broker, "test-overload", tmp_path / "overload"), wanted)
    assert seen.client["queries"] > 0
    assert sum(seen.client["outcomes"].values()) == seen.client["queries"]
    assert seen.memory.keys() == {"p1", "p2", "p3", "aggregator", "offer"}
    # How late a client looks at a result depends on who else uses this machine.
    broken = standing.broken(standing.of_overload(seen))
    assert [one for one in broken if not one.startswith("results that the client took")] == []
