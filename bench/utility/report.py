"""What `bench.utility` found, as tables and plots for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.utility.accuracy import BASELINE
from fi_stream.demo.bars import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from bench.utility.accuracy import Found

_BAR = 50


def accuracy_table(found: Sequence[Found]) -> Table:
    """Accuracy in percent, a rule a line, a group of traces a column."""
    groups = list(dict.fromkeys(one.trace for one in found))
    cells = {(one.rule, one.trace): one for one in found}
    table = Table(
        title="accuracy in %, in brackets the difference to soft and its paired standard error",
        title_justify="left",
    )
    table.add_column("rule", no_wrap=True)
    for group in groups:
        table.add_column(group.replace("_", " "), justify="right")
    for rule in dict.fromkeys(one.rule for one in found):
        table.add_row(rule, *(_cell(cells.get((rule, group))) for group in groups))
    return table


def accuracy_plot(found: Sequence[Found]) -> RenderableType:
    """A bar a rule, from 0 to 100 %, the best first, for each group of traces."""
    parts: list[RenderableType] = []
    for group in dict.fromkeys(one.trace for one in found):
        rows = Table.grid(padding=(0, 1))
        same = sorted((o for o in found if o.trace == group), key=lambda o: -o.accuracy)
        for one in same:
            style = "bold" if one.rule == BASELINE else ""
            rows.add_row(
                Text(one.rule, style), Text(f"{100 * one.accuracy:5.1f}"), Bar(one.accuracy, _BAR)
            )
        parts += [Text(f"\n{group}", "bold"), rows]
    return Group(*parts)


def _cell(one: Found | None) -> Text:
    if one is None:
        return Text("-")
    accuracy = f"{100 * one.accuracy:.1f}"
    if one.rule == BASELINE:
        return Text(accuracy)
    difference = f" ({100 * one.difference_to_soft:+.1f} ± {100 * one.standard_error:.1f})"
    clear = abs(one.difference_to_soft) > 2 * one.standard_error
    colour = "" if not clear else "green" if one.difference_to_soft > 0 else "red"
    return Text(accuracy + difference, colour)
