"""The results of a run as a section of docs/benchmarks.md, between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.costs import Step
    from bench.report import Figures

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- results of make bench -->", "<!-- end of results -->"


def write(
    found: Mapping[str, Figures],
    steps: Sequence[Step],
    machine: Mapping[str, object],
    page: Path = PAGE,
) -> None:
    """Put the results of this run in the place of the last one's."""
    before, _, rest = page.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    section = "\n".join(_section(found, steps, machine))
    page.write_text(f"{before}{_BEGIN}\n\n{section}\n\n{_END}{after}", "utf-8")


def _section(
    found: Mapping[str, Figures], steps: Sequence[Step], machine: Mapping[str, object]
) -> list[str]:
    measured = ", ".join(f"{key} {value}" for key, value in machine.items())
    lines = [
        f"Measured by `make bench ARGS=--docs`: {measured}.",
        "",
        "| pipeline | p50 ms | p99 ms | highest rate /s | cpu us/query |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        cpu = "" if one.cpu_us is None else f"{one.cpu_us:,.0f}"
        cells = (report.TITLES[name], f"{one.p50:.1f}", f"{one.p99:.1f}", f"{one.rate:,.0f}", cpu)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| ratio | measured | target | |", "|---|---:|---:|---|"]
    for ratio in report.ratios(found):
        sign, verdict = ">=" if ratio.at_least else "<=", "met" if ratio.met else "missed"
        lines.append(f"| {ratio.name} | {ratio.value:.2f} | {sign} {ratio.target:g} | {verdict} |")
    lines += ["", "| role | step | once, us | a response, us |", "|---|---|---:|---:|"]
    lines += [f"| {s.role} | {s.what} | {s.micros:.1f} | {s.share:.1f} |" for s in steps]
    whole = sum(step.share for step in steps)
    return [*lines, f"| all | target: {report.COST_TARGET:g} | | {whole:.1f} |"]
