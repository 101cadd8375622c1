"""The table that ends the demo: who was right how often, how fast, and at what privacy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fi_stream.demo.bars import Bar
from fi_stream.federation.policy import Protection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from fi_stream.demo.report import Different, Latency, Report
    from fi_stream.privacy.guarantee import Guarantee

_BAR = 20

_OUTCOMES = {
    "complete": "every participant answered or abstained",
    "decided": "no missing answer could change it",
    "partial": "enough answered by the deadline",
    "no_quorum": "too few answered by the deadline",
    "rejected": "refused at once",
}

_REFUSALS = {"late": "after the deadline, or after the query was settled"}

_SEE_AN_ANSWER = {
    Protection.TRUSTED: "the aggregator",
    Protection.BLIND: "the client",
    Protection.SECAGG: "nobody alone",
}
_SEE_THE_RESULT = {Protection.TRUSTED: "the aggregator and the client"}


def final_table(report: Report) -> RenderableType:
    """The whole report, as a person reads it."""
    parts = [_accuracies(report), _levels(report), _facts(report)]
    if report.different is not None:
        parts.insert(1, _very_different(report.different))
    return Group(*parts)


def _accuracies(report: Report) -> Table:
    accuracy = report.accuracy
    table = Table(
        title=f"{report.counts.queries} handwritten digits, read by",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    # cropped, because an ellipsis is no ASCII
    table.add_column("who", no_wrap=True, overflow="crop")
    table.add_column("right", justify="right", no_wrap=True, overflow="crop")
    table.add_column("")
    table.add_column("trained on", justify="right", no_wrap=True, overflow="crop")
    for name, alone in accuracy.participants.items():
        best = name == accuracy.best
        table.add_row(
            f"{name} alone" + (", the best one" if best else ""),
            f"{alone.accuracy:.1%}",
            Bar(alone.accuracy, _BAR, "cyan" if best else "blue"),
            f"{alone.examples}",
            style="cyan" if best else "",
        )
    table.add_section()
    examples = f"{sum(alone.examples for alone in accuracy.participants.values())}"
    everybody = f"all {len(accuracy.participants)} together"
    for name, share, colour in (
        (f"{everybody}, without noise", accuracy.noiseless, "green"),
        (f"{everybody}, {_noise(report.guarantee)}", accuracy.federation, "bold green"),
    ):
        table.add_row(name, f"{share:.1%}", Bar(share, _BAR, colour), examples, style=colour)
    return table


def _very_different(different: Different) -> Table:
    table = Table(
        title=f"very different data, alpha {different.alpha:g} (computed, not streamed)",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=False,
    )
    table.add_column("who", no_wrap=True, overflow="crop")
    table.add_column("right", justify="right", no_wrap=True, overflow="crop")
    table.add_column("")
    rows = {"the best one alone": different.best_single}
    rows |= {f"all together, {name}": one for name, one in different.by_rule.items()}
    for colour, (name, share) in zip(("cyan", "blue", "green"), rows.items(), strict=True):
        table.add_row(name, f"{share:.1%}", Bar(share, _BAR, colour), style=colour)
    return table


def _levels(report: Report) -> Table:
    every = all(protection in report.levels for protection in Protection)
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=None if every else "--protection LEVEL compares every level there is",
        caption_justify="left",
    )
    table.add_column("protection", no_wrap=True, overflow="crop")
    for name in ("asked", "right", "p50", "p99", "bytes each"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("an answer is seen by", overflow="fold")
    for protection, level in report.levels.items():
        table.add_row(
            protection.value,
            f"{level.queries}",
            f"{level.accuracy:.1%}",
            _rounded(level.p50, " ms"),
            _rounded(level.p99, " ms"),
            _rounded(level.size),
            _SEE_AN_ANSWER[protection],
            style="bold green" if protection is report.protection else "",
        )
    return table


def _protection(protection: Protection) -> str:
    return (
        f"{protection}: participants see the queries, {_SEE_AN_ANSWER[protection]} each answer, "
        f"{_SEE_THE_RESULT.get(protection, 'the client')} the results; the broker only who, when "
        "and how much"
    )


def _rounded(value: float | None, unit: str = "") -> str:
    return "?" if value is None else f"{value:,.0f}{unit}"


def _facts(report: Report) -> Table:
    facts = Table.grid(padding=(0, 2, 0, 1))
    facts.add_column(style="bold", no_wrap=True, overflow="crop")
    facts.add_column()
    for name, value in (
        ("Outcomes", _counted(report.counts.outcomes, _OUTCOMES)),
        ("Refusals", _counted(report.counts.refusals, _REFUSALS)),
        ("Latency", _latency(report.latency)),
        ("Privacy", report.guarantee.sentence if report.guarantee else "nobody answered"),
        ("Protection", _protection(report.protection)),
        ("Broker", report.broker),
    ):
        facts.add_row(name, Text(value))
    return facts


def _noise(guarantee: Guarantee | None) -> str:
    if guarantee is None or math.isinf(guarantee.epsilon_query):
        return "as streamed, no noise"
    return f"noise at epsilon {guarantee.epsilon_query:.3g}"


def _latency(latency: Latency) -> str:
    if latency.p50 is None or latency.p99 is None or latency.first_answer_s is None:
        return "no result came"
    return (
        f"half of the results within {latency.p50:.0f} ms (p50), 99 % within "
        f"{latency.p99:.0f} ms (p99); the first {latency.first_answer_s:.1f} s after the command"
    )


def _counted(counts: Mapping[str, int], meanings: Mapping[str, str]) -> str:
    said = [
        f"{count} {name}" + (f" ({meanings[name]})" if name in meanings else "")
        for name, count in counts.items()
        if count
    ]
    return ", ".join(said) or "none"
