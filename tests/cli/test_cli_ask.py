"""`fi-stream ask` against a federation at work."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import stage as staging
from stage import names_of, rows

if TYPE_CHECKING:
    from pathlib import Path

EVERYONE = ("agg", "p1", "p2", "p3")
DRAWN = rows(3)


class Ended(NamedTuple):
    code: int | None
    out: str
    err: str

    def results(self) -> list[dict[str, object]]:
        return [json.loads(line, parse_constant=_no_constant) for line in self.out.splitlines()]


async def fi_stream(*words: str | Path, stdin: bytes = b"") -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fi_stream.cli",
        *map(str, words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    return Ended(process.returncode, out.decode(), err.decode())


async def test_each_row_is_a_query_whatever_it_is_read_from(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", DRAWN)
    np.savetxt(tmp_path / "rows.csv", DRAWN, delimiter=",")
    async with staging.at_work(tmp_path / "federation", *EVERYONE) as stage:
        alice = stage.file("alice")
        piped = json.dumps(DRAWN.tolist()).encode()
        for words, stdin in (
            ((tmp_path / "rows.npy",), b""),
            ((tmp_path / "rows.csv",), b""),
            ((), piped),
        ):
            ended = await fi_stream("ask", alice, *words, "--json", "--deadline", "10", stdin=stdin)
            assert (ended.code, ended.err) == (0, "")
            results = ended.results()
            assert [result["outcome"] for result in results] == ["complete"] * 3
            assert [result["labels"] for result in results] == [[n] for n in names_of(DRAWN)]

        together = await fi_stream("ask", alice, "--json", "--together", stdin=piped)
        [result] = together.results()
        assert result["labels"] == names_of(DRAWN)

        words = await fi_stream("ask", alice, "--rule", "hard", stdin=piped)
        assert words.code == 0
        for name, line in zip(names_of(DRAWN), words.out.splitlines()[::2], strict=True):
            assert f"complete  {name}" in line
        assert "epsilon is infinite" in words.out


async def test_no_result_is_code_9_and_a_wrong_query_code_8(tmp_path: Path) -> None:
    async with staging.at_work(tmp_path / "federation", "p1") as stage:
        alice, quick = stage.file("alice"), ("--json", "--deadline", "0.1")
        silent = await fi_stream("ask", alice, *quick, stdin=b"[[1, 2, 3, 4]]")
        assert silent.code == 9
        [result] = silent.results()
        assert result["outcome"] is None
        for stdin, says in (
            (b"[[1, 2]]", "x has shape [2]"),
            (b"[[1, 2, 3, NaN]]", "NaN or infinity"),
            (b"nonsense", "standard input cannot be read as rows"),
        ):
            wrong = await fi_stream("ask", alice, *quick, stdin=stdin)
            assert (wrong.code, wrong.out) == (8, "")
            assert wrong.err.startswith("error: ")
            assert says in wrong.err
        unlike = await fi_stream("ask", alice, "--together", stdin=b"[[1, 2], [1, 2, 3]]")
        assert (unlike.code, "leave out --together" in unlike.err) == (8, True)
        stranger = await fi_stream("ask", stage.file("p1"), stdin=b"[[1, 2, 3, 4]]")
        assert (stranger.code, "p1 is no client" in stranger.err) == (3, True)


async def test_the_protection_is_chosen_by_the_query_within_the_policy(tmp_path: Path) -> None:
    policy = {"policy": {"protections": ("trusted", "blind")}}
    piped = json.dumps(DRAWN.tolist()).encode()
    async with staging.at_work(tmp_path / "federation", *EVERYONE, **policy) as stage:
        alice, measured = stage.file("alice"), tmp_path / "load.json"
        quick = ("--deadline", "10", "--protection", "blind")
        asked = await fi_stream("ask", alice, "--json", *quick, stdin=piped)
        assert (asked.code, asked.err) == (0, "")
        for result, name in zip(asked.results(), names_of(DRAWN), strict=True):
            assert (result["outcome"], result["labels"]) == ("complete", [name])
            assert result["protection"] == "blind"
        words = await fi_stream("ask", alice, *quick, stdin=piped)
        assert words.out.count("the aggregator sees no answer") == 3
        rate = ("--rate", "20", "--duration", "1", "--json", measured)
        assert (await fi_stream("load", alice, *rate, *quick)).code == 0
        assert json.loads(measured.read_text())["outcomes"]["complete"] > 0
        for verb in (("ask",), ("load", *rate[:4])):
            wrong = await fi_stream(
                verb[0], alice, *verb[1:], "--protection", "secagg", stdin=piped
            )
            assert wrong.code == 8
            assert "protection 'secagg' is not in the policy: trusted, blind" in wrong.err


async def test_a_query_is_found_or_asked_again_by_its_id(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", DRAWN[:1])
    np.save(tmp_path / "three.npy", DRAWN)
    one, three = tmp_path / "one.npy", tmp_path / "three.npy"
    async with staging.at_work(tmp_path / "federation", *EVERYONE) as stage:
        alice = stage.file("alice")
        [first] = (await fi_stream("ask", alice, one, "--json", "--deadline", "10")).results()
        again = ("--query-id", str(first["query"]))
        for rows_again in ((), (three, "--together")):
            ended = await fi_stream("ask", alice, *rows_again, *again, "--json")
            assert (ended.code, ended.err) == (0, "")
            [result] = ended.results()
            assert {**result, "latency_ms": 0} == {**first, "latency_ms": 0}
        words = await fi_stream("ask", alice, *again)
        assert words.out.startswith(f"{first['query']}  complete  {names_of(DRAWN)[0]}")

        fresh = "01a2131697127c91baec025b3c00c2de"
        none = await fi_stream("ask", alice, "--query-id", fresh, "--json")
        assert (none.code, none.results()) == (9, [{"query": fresh, "outcome": None}])
        for wrong, says in (
            (("--query-id", "17"), "'17' is no query id"),
            ((three, "--query-id", fresh), "is of one query, and here are 3"),
        ):
            refused = await fi_stream("ask", alice, *wrong)
            assert (refused.code, refused.out) == (8, "")
            assert says in refused.err


def _no_constant(name: str) -> object:
    raise AssertionError(name)
