"""What fi_stream stood, as lines: what was looked at, what was seen, and what must hold of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from bench import hostile, job, open_queries, overload
from fi_stream.events.dead_letter import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from bench.hostile import Fared
    from bench.noise import Alone, Whole
    from bench.open_queries import Held, Settling
    from bench.overload import Overloaded

TITLES = {
    "open": "very many open queries (one aggregator, no broker)",
    "hostile": "events that nobody should send (no broker)",
    "overload": "more than it can do (Apache Kafka)",
    "noise": "what noise costs (Apache Kafka, and its drawing alone)",
}
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Line:
    """One figure; `kept` says whether what must hold does, if anything must."""

    what: str
    seen: str
    must: str = ""
    kept: bool = True


def of_open(held: Held, settled: Sequence[Settling]) -> list[Line]:
    """Of the queries that are open at once."""
    most = open_queries.MOST_BYTES
    lines = [
        Line(
            f"bytes an open query, of {held.queries:,}",
            f"{held.bytes_each:,.0f}",
            f"<= {most:,}",
            held.bytes_each <= most,
        ),
        Line("us to ask for the next close and the marks", f"{held.look_us:.1f}"),
    ]
    for one in settled:
        due = f"due within {one.spread:g} s" if one.spread else "due at one moment"
        late = f"{one.late_p50:,.0f} / {one.late_max:,.0f}"
        lines += [
            Line(f"ms after its moment that one is settled, {due}: p50 / max", late),
            Line(f"ms that the loop did nothing else meanwhile, {due}", f"{one.stall:,.0f}"),
        ]
    return lines


def of_hostile(fared: Fared) -> list[Line]:
    """Of the hostile events."""
    longest, growth = hostile.MOST_MILLIS, hostile.MOST_GROWTH
    lines = [
        Line(
            f"ms for one event, {kind.name} ({kind.events:,}): p50 / p99.99 / max",
            f"{kind.p50:.3f} / {kind.p9999:.2f} / {kind.longest:.2f}",
            f"<= {longest:g}",
            kind.longest <= longest,
        )
        for kind in fared.kinds
    ]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in fared.refused.items())
    return [
        *lines,
        Line(
            "MiB that the process grew",
            f"{fared.growth / _MIB:.1f}",
            f"<= {growth / _MIB:g}",
            fared.growth <= growth,
        ),
        Line(
            f"bytes of the largest of {fared.letters:,} dead letters",
            f"{fared.largest_letter:,}",
            f"<= {MOST_BYTES:,}",
            fared.largest_letter <= MOST_BYTES,
        ),
        Line(f"of {fared.events:,} refused", reasons),
        Line("waited for a grant at the end", f"{fared.waiting:,}"),
        Line("were genuine and let in", f"{fared.let_in:,}"),
    ]


def of_overload(seen: Overloaded) -> list[Line]:
    """Of the overload."""
    client, topics = seen.client, seen.topics
    grown = overload.MOST_GROWTH
    return [
        Line("queries/s sustained / offered", f"{client['rate']:,.0f} / {client['offered']:,.0f}"),
        Line("outcomes that the client got in time, and none", _counts(client["outcomes"])),
        Line("why answers were missing, or queries rejected", _counts(client["reasons"])),
        _none("wrong answers", client["wrong"]),
        _none("results that the client took after the deadline", client["late"]),
        _none(f"without an outcome on the topic, of {topics.queries:,}", topics.without),
        _none("with two outcomes", topics.contradicted),
        Line(
            "results appended after the deadline, ms of the last",
            f"{topics.late:,}, {topics.latest_ms:,}",
        ),
        _none("roles dead or stuck (/livez)", len(seen.dead)),
        *(
            Line(
                f"MiB of {name}: start / most / end",
                " / ".join(f"{part / _MIB:.0f}" for part in (size.start, size.most, size.end)),
                f"+ <= {grown / _MIB:g}",
                size.most - size.start <= grown,
            )
            for name, size in seen.memory.items()
        ),
    ]


def of_noise(wholes: Sequence[Whole], alone: Sequence[Alone]) -> list[Line]:
    """Of the mechanisms, each beside none."""
    bare = wholes[0]
    lines = []
    for one in wholes:
        cpu = "" if one.cpu_us is None else f"{one.cpu_us / job.PARTICIPANTS:,.0f}"
        seen = (
            f"{one.rate * job.PARTICIPANTS:,.0f} / {cpu}",
            f"{one.p50:.1f} / {one.p99:.1f}, {one.p50 - bare.p50:+.1f}",
        )
        lines += [
            Line(f"{one.mechanism}: answers/s / cpu us an answer", seen[0]),
            Line(f"{one.mechanism}: p50 / p99 ms, p50 more than none", seen[1]),
        ]
    for kind in alone:
        lines += [
            Line(f"`{kind.mechanism}` alone: answers/s for long", f"{kind.rate:,.0f}"),
            Line(
                f"`{kind.mechanism}` alone: us of one answer, p50 / p99",
                f"{kind.p50_us:.0f} / {kind.p99_us:.0f}",
            ),
        ]
    return lines


def broken(lines: Sequence[Line]) -> list[str]:
    """What must hold and does not."""
    return [f"{line.what}: {line.seen}, {line.must}" for line in lines if not line.kept]


def show(console: Console, part: str, lines: Sequence[Line]) -> None:
    """Print them."""
    table = Table("what", title=TITLES[part])
    table.add_column("seen", justify="right")
    table.add_column("must be", justify="right")
    for line in lines:
        table.add_row(line.what, line.seen, line.must if line.kept else f"{line.must}: BROKEN")
    console.print(table)


def markdown(lines: Sequence[Line]) -> list[str]:
    """The same for the documentation."""
    rows = [f"| {line.what} | {line.seen} | {line.must} |" for line in lines]
    return ["| what | seen | must be |", "|---|---:|---:|", *rows]


def _none(what: str, count: int) -> Line:
    return Line(what, f"{count:,}", "0", count == 0)


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "-"
