"""One query as a picture: what was asked, what each model says, what came back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console, RenderableType

from fi_stream.demo.bars import Bar
from fi_stream.demo.picture import Guess, picture

IMAGE = np.zeros(64, dtype=np.float32)
IMAGE[3::8] = 1.0  # one stroke from top to bottom, in the fourth column
ALONE = (Guess("p1", "1", 0.75), Guess("p2", "7", 0.5))


def printed(what: RenderableType, width: int = 80, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Console(file=file, width=width).print(what)
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("encoding", "ink", "edge"), [("utf-8", "█", "│"), ("ascii", "@", "|")])
def test_a_stroke_looks_like_a_stroke(encoding: str, ink: str, edge: str) -> None:
    lines = printed(picture(IMAGE, "1", ALONE, Guess("together", "1", 0.6)), encoding=encoding)
    drawn = [line.split(edge)[1] for line in lines if line.count(edge) == 2]
    assert drawn == [f" {' ' * 6}{ink * 2}{' ' * 8} "] * 8


@pytest.mark.parametrize("width", [60, 80, 200])
def test_each_answer_stands_beside_it_right_or_wrong(width: int) -> None:
    lines = printed(picture(IMAGE, "1", ALONE, Guess("together", "1", 0.6)), width)
    answers = [line.split("│")[-1].split() for line in lines if "says" in line][1:]
    assert [(a[0], a[2], a[-3], a[-1]) for a in answers] == [
        ("p1", "1", "75%", "right"),
        ("p2", "7", "50%", "wrong"),
        ("together", "1", "60%", "right"),
    ]


def test_a_query_without_a_label_shows_its_outcome() -> None:
    text = "\n".join(printed(picture(IMAGE, "1", ALONE, "no_quorum")))
    assert "no answer: no_quorum" in text


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0.0, "    "), (0.25, "█   "), (0.375, "█▌  "), (1.0, "████"), (7.0, "████"), (-1.0, "    ")],
)
def test_a_bar_is_as_long_as_its_share(share: float, drawn: str) -> None:
    assert "".join(printed(Bar(share, 4))) == drawn


def test_a_bar_keeps_its_share_in_a_narrow_terminal() -> None:
    assert "".join(printed(Bar(0.5, 40), width=8)) == "████    "
