"""The same demo with data that are very different, computed without a federation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fi_stream.demo.data import queries
from fi_stream.demo.levels import WITHOUT_NOISE
from fi_stream.demo.offline import accuracy, predictions, ratios, together
from fi_stream.demo.report import Different
from fi_stream.demo.training import trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.demo.data import Division

ALPHA: Final = 0.1
"""Of the Dirichlet distribution: each participant has mostly a few classes of its own."""


def very_different(
    division: Division, count: int, training: Callable[[int], None] = lambda _: None
) -> Different | None:
    """What participants with very different data would read alone and together.

    Args:
        division: of the demo itself.
        count: how many queries.
        training: as `trained` takes it.

    Returns:
        None where it would compare nothing: with one participant, or data as different as these.
    """
    if division.participants == 1 or division.alpha <= ALPHA:
        return None
    made = trained(replace(division, alpha=ALPHA), training=training)
    asked = queries(made.test, count)
    said = predictions(made.networks, asked.images)
    own = ratios(made, asked.images)
    by_rule = {
        rule: accuracy(together(said, rule, made.examples, own), asked.labels)
        for rule in ("soft", WITHOUT_NOISE)
    }
    best = max(accuracy(one.argmax(axis=1), asked.labels) for one in said)
    return Different(ALPHA, best, by_rule)
