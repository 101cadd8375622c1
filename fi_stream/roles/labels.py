"""Kafka headers for people's tools; nothing is ever decided from them (DESIGN 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.header import VERSION

if TYPE_CHECKING:
    from fi_stream.events.header import Ask, EventType

Labels = tuple[tuple[str, bytes], ...]


def tool_labels(
    kind: EventType,
    task: bytes,
    ask: Ask,
    *,
    outcome: str | None = None,
    trace: bytes | None = None,
) -> Labels:
    """An event's type, version, task and query id; an outcome and a W3C trace if there is one."""
    labels = [
        ("type", kind.encode()),
        ("v", b"%d" % VERSION),
        ("task", task.hex().encode()),
        ("query-id", ask.query.hex().encode()),
    ]
    if outcome is not None:
        labels.append(("outcome", outcome.encode()))
    if trace is not None:
        labels.append(("traceparent", trace))
    return tuple(labels)


def trace_of(labels: Labels) -> bytes | None:
    """The W3C trace that came with an event, to be passed on."""
    return next((value for name, value in labels if name == "traceparent"), None)
