"""One query shown as a picture, beside what each model alone and the federation together say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from fi_stream.demo.bars import Bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_SIDE = 8
_SHADES = " ░▒▓█"
_PLAIN_SHADES = " .+%@"
_BAR = 16


@dataclass(frozen=True, slots=True)
class Guess:
    """What one model, or the federation, says that a picture shows; `confidence` in [0, 1]."""

    who: str
    label: str
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Digit:
    """An 8x8 picture, [64] in [0, 1]; two characters a pixel make it about square."""

    image: NDArray[np.float32]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shades = _PLAIN_SHADES if options.ascii_only else _SHADES
        for row in self.image.reshape(_SIDE, _SIDE):
            yield Segment("".join(shades[round(4 * float(pixel))] * 2 for pixel in row))
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(2 * _SIDE, 2 * _SIDE)


def picture(
    image: NDArray[np.float32], truth: str, alone: tuple[Guess, ...], result: Guess | str
) -> RenderableType:
    """The picture of one query beside the answers.

    Args:
        image: [64] in [0, 1].
        truth: the right label.
        alone: what each participant's model says by itself, before noise.
        result: what the client received, or the outcome when it received no label.
    """
    answers = Table.grid(padding=(0, 1))
    for part in ("who", "says", "bar", "sure", "right"):
        # a narrow terminal shortens the bar first; cropped, because an ellipsis is no ASCII
        answers.add_column(no_wrap=part != "bar", overflow="crop")
    for guess in alone:
        answers.add_row(*_row(guess, truth, ""))
    answers.add_row()
    if isinstance(result, Guess):
        answers.add_row(*_row(result, truth, "bold"))
    else:
        answers.add_row(Text("together", "bold"), Text(f"no answer: {result}", "bold red"))
    beside = Table.grid(padding=(0, 2))
    beside.add_row(
        Panel.fit(Digit(image), title=f"a {truth}", subtitle="the query"),
        Padding(answers, (1, 0)),
    )
    return Group(Text("One query, and what each model says by itself"), beside)


def _row(guess: Guess, truth: str, style: str) -> tuple[RenderableType, ...]:
    right = guess.label == truth
    colour = "green" if right else "red"
    return (
        Text(guess.who, style),
        Text(f"says {guess.label}", f"{style} {colour}"),
        Bar(guess.confidence, _BAR, colour),
        Text(f"{guess.confidence:.0%} sure", style),
        Text("right" if right else "wrong", f"{style} {colour}"),
    )
