"""TOML: what we write reads back equal, and keys are found on their lines."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.federation.reading import key_lines
from fi_stream.federation.writing import dumps, value

texts = st.text(st.characters(codec="utf-8"), max_size=20)
plain = st.one_of(
    texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)
values = st.one_of(plain, st.lists(st.one_of(plain, st.lists(plain, max_size=3)), max_size=4))
tables = st.recursive(
    st.dictionaries(texts, values, max_size=5),
    lambda inner: st.dictionaries(
        texts, st.one_of(values, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4
    ),
    max_leaves=12,
)
names = st.text("abcdefgh_-09", min_size=1, max_size=6)


@given(tables)
def test_what_is_written_reads_back_equal(content: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(content)) == content


@given(st.floats(), st.booleans())
def test_numbers_keep_their_type(number: float, flag: bool) -> None:
    read = tomllib.loads(f"x = {value(number)}\ny = {value(flag)}")
    assert math.isnan(read["x"]) if math.isnan(number) else read["x"] == number
    assert isinstance(read["x"], float)
    assert read["y"] is flag


@pytest.mark.parametrize("given", [None, date(2020, 1, 1), {1}, [{"a": 1}, 2], b"x"])
def test_what_toml_cannot_say_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="cannot be written as TOML"):
        dumps({"x": given})


@given(st.lists(st.dictionaries(names, st.integers(), min_size=1, max_size=3), max_size=3))
def test_every_key_of_a_written_file_has_its_line(items: list[dict[str, int]]) -> None:
    text = dumps({"first": 1, "one": {"two": {"three": 3}}, "items": items})
    written = text.split("\n")
    lines = key_lines(text)
    assert written[lines["one.two.three"] - 1] == "three = 3"
    for number, item in enumerate(items):
        for key, given_value in item.items():
            assert written[lines[f"items[{number}].{key}"] - 1] == f"{key} = {given_value}"


def test_quoted_dotted_and_nested_keys_are_found() -> None:
    text = '[a]\n"b.c" = 1\nd . e = 2\n[[f]]\n[f.g]\nh=1\n[[f]]\n  [f.g]\n  h = 2\n'
    assert key_lines(text) == {
        "a": 1,
        "a.b.c": 2,
        "a.d.e": 3,
        "f": 4,
        "f[0]": 4,
        "f[0].g": 5,
        "f[0].g.h": 6,
        "f[1]": 7,
        "f[1].g": 8,
        "f[1].g.h": 9,
    }


@given(st.text(max_size=200))
def test_lines_can_be_looked_up_in_any_text(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())
