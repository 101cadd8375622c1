"""An audit as a picture: what the claim allows a guess, and how well the best one did. SVG."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fi_stream.roles.audit import Audited

_SIDE, _LEFT, _TOP = 360, 60, 28
_WIDTH, _HEIGHT = _LEFT + _SIDE + 24, _TOP + _SIDE + 130
_LINE, _LETTERS = 18, 48
"""Of the lines above the axes: how high each is, and how many letters, bold ones too, it holds."""

_CLAIM, _FOUND, _REFUTED, _GRID = "#0072b2", "#009e73", "#d55e00", "#dddddd"
_POINTS = 200


def svg(audited: Audited) -> str:
    """The picture: above, right against wrong guesses; below, the bound beside the claim."""
    head = list(_head(audited))
    above = _LINE * len(head)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {above + _HEIGHT}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{above + _HEIGHT}" fill="white"/>',
        *head,
        f'<g transform="translate(0 {above})">',
        *_guesses(audited),
        *_bars(audited),
        "</g>",
        "</g>",
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _head(audited: Audited) -> Iterator[str]:
    """A line of text each; names and guesses may be longer than the picture is wide."""
    verdict = audited.verdict
    title = f"{audited.member}: {audited.mechanism}, epsilon {verdict.claim.epsilon:g} a row"
    guess = f"best guess: by {verdict.tried.looks_at}, {verdict.answers} answers"
    lines = [(line, "bold") for line in wrap(title, _LETTERS)]
    lines += [(line, "normal") for line in wrap(guess, _LETTERS)]
    for number, (line, weight) in enumerate(lines):
        yield _text(_LEFT, 20 + _LINE * number, line, weight=weight)


def _guesses(audited: Audited) -> Iterator[str]:
    verdict = audited.verdict
    for tenths in range(0, 11, 2):
        x, y = _place(tenths / 10, tenths / 10)
        yield _line((_LEFT, y), (_LEFT + _SIDE, y), _GRID)
        yield _line((x, _TOP), (x, _TOP + _SIDE), _GRID)
        yield _text(_LEFT - 8, y + 4, f"{10 * tenths}", anchor="end")
        yield _text(x, _TOP + _SIDE + 16, f"{10 * tenths}", anchor="middle")
    yield _text(_LEFT + _SIDE / 2, _TOP + _SIDE + 34, "yes where wrong, %", anchor="middle")
    turned = f"translate(18 {_TOP + _SIDE / 2}) rotate(-90)"
    label = _text(0, 0, "yes where right, %", anchor="middle")
    yield f'<g transform="{turned}">{label}</g>'
    wrong = [number / _POINTS for number in range(_POINTS + 1)]
    yield _curve(((each, verdict.claim.allows(each)) for each in wrong), _CLAIM)
    yield _curve(verdict.curve, _colour(audited))


def _bars(audited: Audited) -> Iterator[str]:
    verdict = audited.verdict
    most = max(verdict.claim.epsilon, min(verdict.epsilon, 1e3)) * 1.05
    top = _TOP + _SIDE + 52
    sure = f"given away, at least ({100 * (1 - verdict.alpha):g} % sure)"
    for row, (name, epsilon, colour) in enumerate(
        (
            ("claimed, at most", verdict.claim.epsilon, _CLAIM),
            (sure, verdict.epsilon, _colour(audited)),
        )
    ):
        y = top + row * 34
        width = _SIDE * min(1.0, epsilon / most)
        yield _text(_LEFT, y, f"{name}: epsilon {epsilon:.3g}")
        yield f'<rect x="{_LEFT}" y="{y + 4}" width="{width:.1f}" height="12" fill="{colour}"/>'


def _colour(audited: Audited) -> str:
    return _FOUND if audited.verdict.holds else _REFUTED


def _place(wrong: float, right: float) -> tuple[float, float]:
    return _LEFT + wrong * _SIDE, _TOP + (1 - right) * _SIDE


def _curve(points: Iterable[tuple[float, float]], colour: str) -> str:
    placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(*point) for point in points))
    return f'<polyline points="{placed}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    places = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
