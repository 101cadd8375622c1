"""Bars that show a share of one, in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.segment import Segment

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Bar:
    """A share from 0 to 1, `width` characters long when it is 1, or less in a narrow terminal."""

    share: float
    width: int
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self.width, options.max_width)
        share = min(1.0, max(0.0, self.share))
        if options.ascii_only:
            drawn = "#" * round(share * width)
        else:
            full, part = divmod(round(share * width * 8), 8)
            drawn = "█" * full + (_EIGHTHS[part] if part else "")
        yield Segment(drawn.ljust(width), console.get_style(self.style))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(4, self.width), self.width)
