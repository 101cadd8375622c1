"""What the bench found: medians over rounds, ratios to the bare pipeline, targets, the table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from bench.costs import Step
    from bench.profiling import Line
    from bench.rounds import Measured

TITLES = {
    "bare": "bare aiokafka, in the clear",
    "faststream": "FastStream, in the clear",
    "sealed": "fi_stream, sealed",
    "noised": "fi_stream, sealed and noised",
}
COST_TARGET = 25.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One pipeline: medians over its rounds; milliseconds, queries/s, microseconds a query."""

    p50: float
    p99: float
    rate: float
    window: int
    cpu_us: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure as a multiple of another pipeline's, beside its target in DESIGN 14."""

    name: str
    value: float
    target: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it is on the right side of its target."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def figures(rounds: Sequence[Measured]) -> Figures:
    """The medians of one pipeline; of each round its best window counts."""
    best = [max(one.peaks, key=lambda peak: peak.rate) for one in rounds]
    cpu = [peak.cpu_us for peak in best if peak.cpu_us is not None]
    return Figures(
        p50=median(one.light.p50 for one in rounds),
        p99=median(one.light.p99 for one in rounds),
        rate=median(peak.rate for peak in best),
        window=max(best, key=lambda peak: peak.rate).window,
        cpu_us=median(cpu) if cpu else None,
    )


def ratios(found: Mapping[str, Figures]) -> list[Ratio]:
    """The ratios that DESIGN 14 speaks of."""
    bare, sealed, noised = found["bare"], found["sealed"], found["noised"]
    return [
        Ratio("sealed p50 / bare p50", sealed.p50 / bare.p50, 1.5, at_least=False),
        Ratio("sealed p99 / bare p99", sealed.p99 / bare.p99, 2.0, at_least=False),
        Ratio("noised p50 / bare p50", noised.p50 / bare.p50, 1.5, at_least=False),
        Ratio("noised p99 / bare p99", noised.p99 / bare.p99, 2.0, at_least=False),
        Ratio("sealed rate / bare rate", sealed.rate / bare.rate, 0.5, at_least=True),
        Ratio("noised rate / bare rate", noised.rate / bare.rate, 0.3, at_least=True),
        Ratio(
            "sealed rate / FastStream rate",
            sealed.rate / found["faststream"].rate,
            10.0,
            at_least=True,
        ),
    ]


def document(
    rounds: Mapping[str, Sequence[Measured]], steps: Sequence[Step], machine: Mapping[str, object]
) -> dict[str, Any]:
    """Everything as plain values, for `--json`."""
    found = {name: figures(measured) for name, measured in rounds.items()}
    return {
        "machine": dict(machine),
        "pipelines": {
            name: {
                "latency_ms_at_50": {"p50": one.p50, "p99": one.p99},
                "highest_rate": one.rate,
                "window": one.window,
                "cpu_us_per_query": one.cpu_us,
                "rounds": [asdict(measured) for measured in rounds[name]],
            }
            for name, one in found.items()
        },
        "ratios": [{**asdict(ratio), "met": ratio.met} for ratio in ratios(found)],
        "cost_us": {
            "per_response": sum(step.share for step in steps),
            "target": COST_TARGET,
            "steps": [{**asdict(step), "share": step.share} for step in steps],
        },
    }


def show(console: Console, found: Mapping[str, Figures]) -> None:
    """Print the pipelines and the ratios."""
    table = Table("pipeline", title="one client, three participants, one aggregator")
    for heading in ("p50 ms", "p99 ms", "highest rate /s", "in flight", "of bare", "cpu us/query"):
        table.add_column(heading, justify="right")
    for name, one in found.items():
        table.add_row(
            TITLES[name],
            f"{one.p50:.1f}",
            f"{one.p99:.1f}",
            f"{one.rate:,.0f}",
            str(one.window),
            f"{one.rate / found['bare'].rate:.2f}",
            "" if one.cpu_us is None else f"{one.cpu_us:,.0f}",
        )
    console.print(table)
    targets = Table("ratio", title="against DESIGN 14")
    for heading in ("measured", "target", ""):
        targets.add_column(heading, justify="right")
    for ratio in ratios(found):
        sign = ">=" if ratio.at_least else "<="
        verdict = "met" if ratio.met else "missed"
        targets.add_row(ratio.name, f"{ratio.value:.2f}", f"{sign} {ratio.target:g}", verdict)
    console.print(targets)


def show_costs(console: Console, steps: Sequence[Step]) -> None:
    """Print what sealing, codec and join cost."""
    table = Table("role", "step", title="sealing, codec and join, in microseconds (one thread)")
    table.add_column("once", justify="right")
    table.add_column("a response", justify="right")
    for step in steps:
        table.add_row(step.role, step.what, f"{step.micros:.1f}", f"{step.share:.1f}")
    table.add_section()
    whole = sum(step.share for step in steps)
    table.add_row("all", f"target: {COST_TARGET:g}", "", f"{whole:.1f}")
    console.print(table)


def show_profile(console: Console, profiles: Mapping[str, Sequence[Line]]) -> None:
    """Print where each process's busy time goes, the widest functions first."""
    for role, lines in profiles.items():
        table = Table("function", title=f"{role}: share of its busy time")
        for heading in ("with what it calls", "by itself"):
            table.add_column(heading, justify="right")
        for line in lines:
            table.add_row(line.where, f"{line.whole:.1%}", f"{line.own:.1%}")
        console.print(table)
