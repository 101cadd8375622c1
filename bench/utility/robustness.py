"""What `liar` and `attacks` found, as tables for a terminal."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fi_stream.federation.references import is_own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.utility.attacks import Attacked
    from bench.utility.liar import Harm

_ALLOWED = 0.02
"""What a liar may cost at most, with cap and gate."""


def liar_table(found: Sequence[Harm]) -> Table:
    """Accuracy of each rule, a mean over traces, and the worst trace's loss in points."""
    table = Table(
        title="a random participant that is always sure and claims ten times the data: "
        "accuracy in %, mean over traces; lost in points, the worst trace",
        title_justify="left",
    )
    table.add_column("rule", no_wrap=True)
    for title in (
        "without it",
        "with it",
        "cap and gate, without it",
        "cap and gate, with it",
        "lost",
        "lost once judged",
    ):
        table.add_column(title, justify="right")
    for rule in dict.fromkeys(one.rule for one in found):
        same = [one for one in found if one.rule == rule]
        accuracies = (
            fmean(one.alone for one in same),
            fmean(one.taken for one in same),
            fmean(one.guarded_alone for one in same),
            fmean(one.guarded for one in same),
        )
        lost = (max(one.lost for one in same), max(one.lost_judged for one in same))
        table.add_row(
            rule,
            *(f"{100 * value:.1f}" for value in accuracies),
            *(Text(f"{100 * v:.1f}", "" if v <= _ALLOWED else "red") for v in lost),
        )
    return table


def attack_table(found: Sequence[Attacked], guarded: str) -> Table:
    """Accuracy of each rule under each attack, a mean over traces."""
    table = Table(
        title=f"accuracy in % under attack, {guarded}: mean over traces", title_justify="left"
    )
    table.add_column("rule", no_wrap=True)
    attacks = list(dict.fromkeys(one.attack for one in found))
    for attack in attacks:
        shown = attack if is_own(attack) else attack.replace("_", " ")
        table.add_column(shown, justify="right")
    for rule in dict.fromkeys(one.rule for one in found):
        cells = (
            fmean(one.accuracy for one in found if (one.rule, one.attack) == (rule, attack))
            for attack in attacks
        )
        table.add_row(rule, *(f"{100 * cell:.1f}" for cell in cells))
    return table
