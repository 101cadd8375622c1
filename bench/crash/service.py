"""When the federation was served: an aggregator ready, and the broker up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.crash.history import Span

if TYPE_CHECKING:
    from collections.abc import Iterable


def served(ready: Iterable[Span], outages: Iterable[Span]) -> tuple[Span, ...]:
    """The times in which at least one was ready and there was no outage; in order, apart."""
    merged: list[Span] = []
    for span in sorted(ready, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        elif span.start < span.end:
            merged.append(span)
    for outage in outages:
        merged = [part for span in merged for part in _without(span, outage)]
    return tuple(merged)


def _without(span: Span, outage: Span) -> list[Span]:
    parts = (
        Span(span.start, min(span.end, outage.start)),
        Span(max(span.start, outage.end), span.end),
    )
    return [part for part in parts if part.start < part.end]
