"""What was measured as a table, as a plot in characters and as a picture; seeds are averaged."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import TYPE_CHECKING, TypeAlias

from rich.table import Table

from bench.plot import Curve, Panel, svg
from bench.privacy.measure import EPSILONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from bench.privacy.measure import Measured

_Rows: TypeAlias = dict[tuple[str, str], tuple[float, ...]]
"""By protections and mechanism: % at each epsilon, then without noise."""

Averages: TypeAlias = dict[str, _Rows]
"""By group of traces."""

_MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STEP = 5
_COLUMN = 9


def averages(measured: Sequence[Measured], groups: Mapping[str, str]) -> Averages:
    """Percentages, averaged over the traces of a group.

    Args:
        measured: everything.
        groups: of each trace, by its name.
    """
    found: defaultdict[tuple[str, str, str, float], list[Measured]] = defaultdict(list)
    for one in measured:
        found[groups[one.trace], one.protection, one.mechanism, one.epsilon].append(one)
    averaged: defaultdict[str, _Rows] = defaultdict(dict)
    for group, protection, mechanism, _ in found:
        every = [found[group, protection, mechanism, epsilon] for epsilon in EPSILONS]
        noiseless = 100 * mean(one.noiseless for one in every[0])
        percents = [100 * mean(one.accuracy for one in at) for at in every]
        averaged[group][protection, mechanism] = (*percents, noiseless)
    return {group: _joined(rows) for group, rows in averaged.items()}


def _joined(rows: _Rows) -> _Rows:
    """Protections under which a mechanism fares the same, on one line."""
    names: defaultdict[tuple[str, tuple[float, ...]], list[str]] = defaultdict(list)
    for (protection, mechanism), figures in rows.items():
        names[mechanism, figures].append(protection)
    return {
        (", ".join(protections), mechanism): figures
        for (mechanism, figures), protections in names.items()
    }


def table(averaged: Averages) -> Table:
    """Everything, a line for each mechanism."""
    shown = Table("traces", "protection", "mechanism", title="accuracy in %, by epsilon of one row")
    for epsilon in EPSILONS:
        shown.add_column(f"{epsilon:g}", justify="right")
    shown.add_column("no noise", justify="right")
    for group, rows in averaged.items():
        for (protections, mechanism), figures in rows.items():
            cells = (f"{percent:.1f}" for percent in figures)
            shown.add_row(group, protections, mechanism, *cells)
        shown.add_section()
    return shown


def markdown(averaged: Averages) -> list[str]:
    """The same for the docs."""
    heads = [f"{epsilon:g}" for epsilon in EPSILONS]
    lines = [
        f"| traces | protection | mechanism | {' | '.join(heads)} | no noise |",
        f"|---|---|---|{'---:|' * (len(heads) + 1)}",
    ]
    for group, rows in averaged.items():
        for (protections, mechanism), figures in rows.items():
            cells = " | ".join(f"{percent:.0f}" for percent in figures)
            lines.append(f"| {group} | {protections} | `{mechanism}` | {cells} |")
    return lines


def show(console: Console, averaged: Averages) -> None:
    """Print the table, and a plot of each group in characters."""
    console.print(table(averaged))
    for group, rows in averaged.items():
        console.print(f"\n{group}: accuracy in %, by epsilon of one row", style="bold")
        for line in _characters(rows):
            console.print(line, highlight=False, markup=False)


def picture(averaged: Averages) -> str:
    """All groups as SVG."""
    panels = [
        Panel(
            group,
            tuple(
                Curve(f"{mechanism} ({protections})", EPSILONS, figures[:-1])
                for (protections, mechanism), figures in rows.items()
            ),
        )
        for group, rows in averaged.items()
    ]
    return svg(panels, "epsilon of one row", "accuracy, %")


def _characters(rows: _Rows) -> list[str]:
    """One letter a mechanism; those that meet in one place stand side by side there."""
    cells: defaultdict[tuple[int, int], str] = defaultdict(str)
    legend = []
    for mark, ((protections, mechanism), figures) in zip(_MARKS, rows.items(), strict=False):
        legend.append(f"       {mark}  {mechanism} ({protections})")
        for column, percent in enumerate(figures[:-1]):
            cells[round(percent / _STEP), column] += mark
    levels = [level for level, _ in cells]
    lines = []
    for level in range(max(levels), min(levels) - 1, -1):
        row = "".join(cells[level, at].center(_COLUMN) for at in range(len(EPSILONS)))
        lines.append(f"{level * _STEP:>5} |{row}".rstrip())
    lines.append(f"      +{'-' * _COLUMN * len(EPSILONS)}")
    lines.append(
        f"       {''.join(f'{epsilon:g}'.center(_COLUMN) for epsilon in EPSILONS)}".rstrip()
    )
    return [*lines, *legend]
