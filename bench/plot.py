"""A picture of lines as SVG, written by hand: no library is needed for so little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Told apart also by people who see few colours (Okabe and Ito)."""

_WIDTH, _HEIGHT = 330, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 26, 14, 36
_PER_LINE = 3
_LEGEND = 20


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line: `x` and `y` equally long; the same name has the same colour everywhere."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: `y` from 0 to 100, `x` by powers of two."""

    title: str
    curves: tuple[Curve, ...]


def svg(panels: Sequence[Panel], x_axis: str, y_axis: str) -> str:
    """The panels side by side, with one legend.

    Args:
        panels: at least one.
        x_axis: what x is; its values are above 0.
        y_axis: what y is, 0 to 100.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    across = min(_PER_LINE, len(panels))
    down = -(-len(panels) // across)
    columns = max(1, across - 1)  # a name is longer than a panel is wide
    width, above = across * _WIDTH, -(-len(names) // columns) * _LEGEND + 8
    height = above + down * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        '<g font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, name in enumerate(names):
        x, y = number % columns * width // columns + _LEFT, number // columns * _LEGEND + 16
        parts += [
            _line((x, y - 4), (x + 20, y - 4), colours[name], 3),
            _text(x + 26, y, name),
        ]
    for number, panel in enumerate(panels):
        at = number % across * _WIDTH, above + number // across * _HEIGHT
        parts += [f'<g transform="translate({at[0]} {at[1]})">']
        parts += _panel(panel, colours, x_axis, y_axis)
        parts += ["</g>"]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(panel: Panel, colours: dict[str, str], x_axis: str, y_axis: str) -> list[str]:
    every = sorted({x for curve in panel.curves for x in curve.x})
    low, high = math.log2(every[0]), math.log2(every[-1])
    across, up = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log2(x) - low) / (high - low) if high > low else 0.5
        return _LEFT + share * across, _TOP + (1 - y / 100) * up

    parts = [_text(_LEFT, _TOP - 10, panel.title, weight="bold")]
    for y in range(0, 101, 20):
        (left, height), right = place(every[0], y), _LEFT + across
        parts += [
            _line((left, height), (right, height), "#dddddd"),
            _text(_LEFT - 6, height + 4, str(y), anchor="end"),
        ]
    foot = _TOP + up
    parts += [_text(place(x, 0)[0], foot + 14, f"{x:g}", anchor="middle") for x in every]
    parts += [_text(_LEFT + across / 2, foot + 28, x_axis, anchor="middle")]
    turned = f"translate(14 {_TOP + up / 2:.1f}) rotate(-90)"
    parts.append(f'<g transform="{turned}">{_text(0, 0, y_axis, anchor="middle")}</g>')
    for curve in panel.curves:
        points = [place(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = colours[curve.name]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
    return parts


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str, width: int = 1) -> str:
    places = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
