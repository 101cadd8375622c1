"""The results of a run as sections of docs/benchmarks.md, each between two marks."""

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
    put(_BEGIN, _section(found, steps, machine), page)


def write_part(
    part: str, lines: Sequence[str], machine: Mapping[str, object], page: Path = PAGE
) -> None:
    """The same for one of the parts that compare nothing."""
    measured = f"Measured by `make bench ARGS='{part} --docs'`: {_machine(machine)}."
    put(f"<!-- results of {part} -->", [measured, "", *lines], page)


def put(begin: str, lines: Sequence[str], page: Path) -> None:
    """Put lines between a mark and the next end of results."""
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(_END)
    section = "\n".join(lines)
    page.write_text(f"{before}{begin}\n\n{section}\n\n{_END}{after}", "utf-8")


def _machine(machine: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _section(
    found: Mapping[str, Figures], steps: Sequence[Step], machine: Mapping[str, object]
) -> list[str]:
    lines = [
        f"Measured by `make bench ARGS=--docs`: {_machine(machine)}.",
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
