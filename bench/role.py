"""One process of one pipeline: `python -m bench.role PIPELINE ROLE SETTING`.

A client, and whoever offers too much, prints what it measured as JSON; the other roles run until
SIGTERM. With BENCH_PROFILE set to a file, a profile of the process is written there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.federated import VARIANTS
from bench.load import Answers, Plan, run
from bench.offering import Offer, offer
from bench.sampler import sampled
from bench.setting import Setting
from fi_stream.roles.runtime import run_role

if TYPE_CHECKING:
    from types import ModuleType

PROFILE = "BENCH_PROFILE"
MODULES = {
    "bare": "bench.bare",
    "faststream": "bench.framework",
    **dict.fromkeys(VARIANTS, "bench.federated"),
}
"""Where each pipeline is."""


def main(pipeline: str, role: str, told: dict[str, Any]) -> None:
    """Run one role, under a profile if that is wanted."""
    module = import_module(MODULES[pipeline])
    file = os.environ.get(PROFILE)
    if file is None:
        _run(module, role, told)
        return
    with sampled(Path(file)):  # from here on, so that what imports cost is not in it
        _run(module, role, told)


def _run(module: ModuleType, role: str, told: dict[str, Any]) -> None:
    setting = Setting(told["bootstrap"], told["name"], Path(told["folder"]))
    if role == "client":
        plan = Plan(**told["plan"])
        print(json.dumps(asyncio.run(_client(module, setting, plan))), flush=True)
    elif role == "offer":
        wanted = Offer(**told["offer"])
        print(json.dumps(asyncio.run(offer(setting, wanted))), flush=True)
    elif role == "aggregator":
        run_role(lambda stop: module.aggregator(setting, stop))
    else:
        run_role(lambda stop: module.participant(setting, int(role[1:]), stop))


async def _client(module: ModuleType, setting: Setting, plan: Plan) -> dict[str, Any]:
    answers = Answers()
    async with module.client(setting, answers) as asker:
        return await run(plan, asker, answers)


def _arguments() -> tuple[str, str, dict[str, Any]]:
    pipeline, role, told = sys.argv[1:]
    return pipeline, role, json.loads(told)


if __name__ == "__main__":
    main(*_arguments())
