"""What is imported by whom: heavy packages only where a model, noise or training needs them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import stage as staging

from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"torch", "opendp", "onnxruntime", "sklearn", "pandas", "polars"}

SAYS_WHAT_IS_LOADED = f"""
import sys
print(sorted({HEAVY!r} & {{name.partition(".")[0] for name in sys.modules}}))
"""

AT_WORK = """
import asyncio, sys
import numpy as np
from fi_stream import connect, NoResult
from fi_stream.roles.aggregator import run_aggregator

async def main():
    stop = asyncio.Event()
    running = asyncio.create_task(run_aggregator(sys.argv[1], stop))
    async with connect(sys.argv[2]) as fi:
        while True:
            try:
                result = await fi.ask(np.zeros(4), deadline=0.3)
                break
            except NoResult:
                pass
    assert result.outcome == "no_quorum", result
    stop.set()
    await running

asyncio.run(main())
"""


def loaded_after(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code + SAYS_WHAT_IS_LOADED, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import fi_stream",
        "from fi_stream import *",
        "from fi_stream import connect, Client, Result, Outcome, NoResult",
        "import fi_stream.roles.aggregator",
        "import fi_stream.roles.participant",  # a model of numpy needs no more
        "import fi_stream.transport.topics",
        "import fi_stream.cli.topics, fi_stream.cli.ask, fi_stream.cli.tail, fi_stream.cli.check",
        "import fi_stream.cli.aggregator, fi_stream.cli.broker, fi_stream.cli.load",
        "from fi_stream.cli.app import app; app('topics'); app('aggregator')",
    ],
)
def test_clients_aggregators_and_tools_import_nothing_heavy(code: str) -> None:
    assert loaded_after(code) == "[]"


def test_a_client_and_an_aggregator_at_work_have_imported_nothing_heavy(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        stage = staging.build(tmp_path / "federation", broker.bootstrap)
        files = (str(stage.file("agg")), str(stage.file("alice")))
        assert loaded_after(AT_WORK, *files) == "[]"


def test_the_package_alone_loads_almost_nothing_and_names_what_it_has() -> None:
    code = (
        "import sys, fi_stream\n"
        "assert not {'numpy', 'aiokafka', 'pydantic'} & set(sys.modules)\n"
        "assert set(fi_stream.__all__) <= set(dir(fi_stream))\n"
        "assert all(getattr(fi_stream, name).__name__ == name for name in fi_stream.__all__)\n"
        "try: fi_stream.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise AssertionError\n"
    )
    assert loaded_after(code) == "[]"
