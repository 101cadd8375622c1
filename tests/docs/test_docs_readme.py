from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from documents import ROOT, marked, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = text_of("README.md")
READY = 4
WITHIN = 60.0


def test_what_the_readme_says_to_type_by_hand_works(tmp_path: Path) -> None:
    with _running(marked(TEXT, "start"), tmp_path) as port:
        asked = _shell(marked(TEXT, "ask"), tmp_path, port)
        labels = re.findall(r"(?:complete|decided)  (\w+)", asked)
        assert labels == ["setosa", "virginica", "virginica"]
        assert asked.count("the aggregator sees no answer") == 1
        said = subprocess.run(
            [sys.executable, "-c", marked(TEXT, "python").replace("deadline=0.5", "deadline=10")],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            timeout=WITHIN,
        ).stdout
        assert re.match(r"(complete|decided) \['setosa'\] \{", said)
        assert said.count("epsilon is infinite") == 2


def test_the_table_is_one_that_the_demo_prints_and_bears_out_what_is_claimed() -> None:
    found = re.search(r"<!-- table: .*? -->\n```\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    table = found[1]
    rows = re.findall(r"^  (\S.*?) {2,}([\d.]+)%", table, flags=re.MULTILINE)
    shares = {who: float(share) for who, share in rows}
    alone = [share for who, share in shares.items() if re.match(r"p\d alone", who)]
    assert len(alone) == 5
    assert shares["all 5 together, without noise"] > max(alone)
    by_far = shares["all together, competence_density"] - shares["the best one alone"]
    assert by_far > 20
    source = (ROOT / "fi_stream/demo/table.py").read_text("utf-8")
    for fact in re.findall(r"^([A-Z]\w+) {2,}", table, flags=re.MULTILINE):
        assert f'("{fact}", ' in source


@contextmanager
def _running(script: str, directory: Path) -> Iterator[int]:
    """The processes that a script starts, in a session of their own, once all are ready."""
    port = _free_port()
    log = directory / "log"
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", f"{_here(script, port)}\nwait"],
            cwd=directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + WITHIN
        while log.read_text("utf-8").count('"event": "ready"') < READY:
            assert time.monotonic() < until, log.read_text("utf-8")
            assert shell.poll() is None, log.read_text("utf-8")
            time.sleep(0.1)
        yield port
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(timeout=WITHIN)
        _gone(shell.pid)


def _gone(group: int) -> None:
    """Wait until no process of the group is left."""
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)


def _shell(script: str, directory: Path, port: int) -> str:
    done = subprocess.run(
        ["bash", "-e", "-c", _here(script, port)],
        cwd=directory,
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    return done.stdout


def _here(script: str, port: int) -> str:
    """The script as printed, but on a free port, with less load, and patient."""
    script = script.replace("client/member.toml\n", "client/member.toml --deadline 10\n")
    script = script.replace(
        "client/member.toml --protection", "client/member.toml --deadline 10 --protection"
    )
    script = script.replace(
        "fi-stream init iris", f"fi-stream init iris --bootstrap 127.0.0.1:{port}"
    )
    return script.replace("--port 9092", f"--port {port}").replace("--duration 5", "--duration 1")


def _environment() -> dict[str, str]:
    commands = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
