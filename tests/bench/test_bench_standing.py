"""What must hold of open queries and of hostile events, with fewer of them than in the bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench import docs, hostile, open_queries, standing
from bench.in_process import InProcess
from bench.outcomes import Seen
from bench.standing import Line
from fi_stream.events.header import Reply
from fi_stream.events.payloads import Outcome, ResultPayload, frame
from fi_stream.roles.aggregator import MOST_AT_ONCE
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.sealing.epochs import Sealed


def test_an_open_query_costs_at_most_two_kilobytes() -> None:
    assert open_queries.held(10_000).bytes_each <= open_queries.MOST_BYTES


def test_queries_that_are_due_at_one_moment_are_settled_in_turns_and_each_once() -> None:
    seen = open_queries.settling(3 * MOST_AT_ONCE, 0.0)
    assert seen.at_once <= MOST_AT_ONCE


def test_hostile_events_are_refused_for_a_reason_and_cost_little() -> None:
    fared = hostile.feed(50_000, seed=7)
    assert fared.events >= 50_000
    assert sum(fared.refused.values()) + fared.waiting + fared.let_in == fared.events
    assert fared.refused.keys() >= {"malformed", "unknown_epoch", "bad_tag", "bad_signature"}
    assert standing.broken(standing.of_hostile(fared)) == []


def at(topic: str, sealed: Sealed, when: int) -> Record:
    return Record(Partition(topic, 0), 0, BrokerMillis(when), b"key", sealed.value)


def test_outcomes_are_told_apart_by_the_event_that_was_asked() -> None:
    members, seen = InProcess(), Seen()
    client, aggregator = members.epochs["client"], members.epochs["aggregator"]
    asks = [members.ask(bytes([number]) * 16, 1000) for number in range(5)]
    queries = [client.seal(ask, None, b"") for ask in asks]
    results = [
        aggregator.seal(
            ask,
            Reply(client="client", digest=query.digest, kind="result"),
            frame(ResultPayload(outcome=Outcome.NO_QUORUM)),
        )
        for ask, query in zip(asks, queries, strict=True)
    ]
    for query, when in zip(queries, (10, 20, 30, 1000, 1001), strict=True):
        seen.take(at("fi.queries", query, when))  # the last one came too late to count
    seen.take(at("fi.results", results[0], 900))
    seen.take(at("fi.results", results[0], 950))  # the same event again
    seen.take(at("fi.results", results[1], 1200))
    seen.take(at("fi.results", results[2], 999))
    reply = Reply(client="client", digest=queries[2].digest, kind="result")
    seen.take(at("fi.results", aggregator.seal(asks[2], reply, b"other"), 999))
    found = seen.outcomes()
    assert (found.queries, found.without, found.contradicted) == (4, 1, 1)
    assert (found.late, found.latest_ms) == (1, 200)


def test_what_is_broken_is_said_in_the_table_and_in_the_docs(tmp_path: Path) -> None:
    lines = [Line("bytes", "3,000", "<= 2,048", kept=False), Line("us", "1.0")]
    assert standing.broken(lines) == ["bytes: 3,000, <= 2,048"]
    console = Console(record=True, width=100)
    standing.show(console, "open", lines)
    assert "BROKEN" in console.export_text()
    page = tmp_path / "benchmarks.md"
    page.write_text(docs.PAGE.read_text("utf-8"), "utf-8")
    docs.write_part("open", standing.markdown(lines), {"cpus": 2}, page)
    once = page.read_text("utf-8")
    docs.write_part("open", standing.markdown(lines), {"cpus": 2}, page)
    assert page.read_text("utf-8") == once
    assert "| bytes | 3,000 | <= 2,048 |" in once
    assert once.count("# Benchmarks\n") == 1


@pytest.mark.parametrize("part", ["open", "hostile", "overload"])
def test_every_part_has_a_place_in_the_docs(part: str) -> None:
    page = docs.PAGE.read_text("utf-8")
    assert page.count(f"<!-- results of {part} -->") == 1
    assert f"make bench ARGS='{part}'" in page
