"""One round of one pipeline: fresh topics, five processes, one measurement, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import federated, job
from bench.federated import VARIANTS
from bench.load import DRAIN_WITHIN, RAMP, READY_WITHIN, Light, Peak, Plan
from bench.role import PROFILE
from bench.setting import Setting, environment
from bench.topics import make_fresh, make_fresh_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT = Path(__file__).parent.parent
_STOP_WITHIN = 8.0
_LEAST_RIGHT = {"noised": 0.99, "gaussian": 0.5, "shards": 0.99, "central": 0.99}
"""Share of results that must be right where noise may change one; elsewhere all must be."""


class BenchFailed(Exception):
    """A pipeline did not start, or its results were wrong: its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round of one pipeline gave."""

    light: Light
    peaks: tuple[Peak, ...]


@dataclass(slots=True)
class Processes:
    """The processes of one round; each one's output is kept in a file until the round is over."""

    pipeline: str
    setting: Setting
    profiles: Mapping[str, Path]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str, told: dict[str, Any], out: int | None = None) -> None:
        """Start one role."""
        told = {
            "bootstrap": self.setting.bootstrap,
            "name": self.setting.name,
            "folder": str(self.setting.folder),
            **told,
        }
        env = environment()
        if role in self.profiles:
            env[PROFILE] = str(self.profiles[role])
        with self._log(role).open("wb") as log:
            self.running[role] = subprocess.Popen(
                [sys.executable, "-m", "bench.role", self.pipeline, role, json.dumps(told)],
                cwd=_ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log if out is None else out,
                stderr=log,
            )

    def said(self, role: str) -> str:
        """The last lines of a role's log."""
        return "\n".join(self._log(role).read_text("utf-8", "replace").splitlines()[-15:])

    def stop(self) -> None:
        """Ask all to stop, and see that they do."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_WITHIN)
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _log(self, role: str) -> Path:
        return self.setting.folder / f"{role}.log"


def measure(
    pipeline: str, setting: Setting, plan: Plan, profiles: Mapping[str, Path] | None = None
) -> Measured:
    """Run one round.

    Args:
        pipeline: a key of `role.MODULES`.
        setting: with a name and folder of its own for each round.
        plan: what the client does.
        profiles: where to write a profile of which role.

    Raises:
        BenchFailed: a process failed, or results were lost or wrong.
    """
    _prepare(pipeline, setting)
    with _processes(Processes(pipeline, setting, profiles or {})) as processes:
        for number in job.participants():
            processes.start(f"p{number}", {})
        processes.start("aggregator", {})
        others = tuple(process.pid for process in processes.running.values())
        plan = replace(plan, others=others)
        processes.start("client", {"plan": asdict(plan)}, subprocess.PIPE)
        printed = _output_of_client(processes, plan)
    measured = Measured(Light(**printed["light"]), tuple(Peak(**one) for one in printed["peaks"]))
    check(pipeline, measured)
    return measured


def check(pipeline: str, measured: Measured) -> None:
    """Refuse the numbers of a pipeline that lost results or had wrong ones.

    Raises:
        BenchFailed: it did.
    """
    parts: tuple[Light | Peak, ...] = (measured.light, *measured.peaks)
    for part in parts:
        least = _LEAST_RIGHT.get(pipeline, 1.0) * (part.right + part.wrong)
        if part.lost or not part.right or part.right < least:
            raise BenchFailed(
                f"{pipeline}: {part.right} results right, {part.wrong} wrong, {part.lost} lost, "
                f"in {part}. A pipeline must be correct before its speed means anything."
            )


def _prepare(pipeline: str, setting: Setting) -> None:
    setting.folder.mkdir(parents=True)
    if pipeline in VARIANTS:
        federated.make(setting, VARIANTS[pipeline])
        asyncio.run(make_fresh_catalogue(setting))
    else:
        asyncio.run(make_fresh(setting))


@contextmanager
def _processes(processes: Processes) -> Iterator[Processes]:
    with ExitStack() as cleanup:
        cleanup.callback(processes.stop)
        yield processes


def _output_of_client(processes: Processes, plan: Plan) -> dict[str, Any]:
    each_peak = RAMP + plan.peak_seconds + DRAIN_WITHIN
    most = READY_WITHIN + plan.light_seconds + 2 * DRAIN_WITHIN + len(plan.windows) * each_peak
    client = processes.running["client"]
    try:
        out, _ = client.communicate(timeout=most + 15)
    except subprocess.TimeoutExpired:
        out = b""
    if client.returncode != 0 or not out:
        logs = "\n".join(f"{role}:\n{processes.said(role)}" for role in processes.running)
        raise BenchFailed(f"the client of {processes.pipeline} measured nothing.\n{logs}")
    printed: dict[str, Any] = json.loads(out.splitlines()[-1])
    return printed
