"""fi_stream itself: its own files, roles and client, as anybody runs them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import job
from fi_stream.events.payloads import Outcome
from fi_stream.events.tensors import Datatype
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Form, NoisyMaxPolicy, Policy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.federation.writing import dumps
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.client import connect
from fi_stream.roles.participant import run_participant
from fi_stream.sealing.identity import Identity

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bench.load import Answers
    from bench.setting import Setting
    from fi_stream.roles.client import Client
    from fi_stream.roles.result import Result

EPSILON, DELTA = 8.0, 1e-5
"""Of one row; Gaussian noise has twice that epsilon, or too few answers were right to measure."""

DEADLINE = 10.0
"""Seconds; long, so that a query ends when its answers are there and not before."""

AGGREGATOR, CLIENT = "aggregator", "client"
_MODEL = "from bench.job import {model}\n\n\ndef load():\n    return {model}({number})\n"
_CENTRAL = "central"
"""Not a participant's mechanism: the aggregator noises the votes."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Which noise there is, and the form and rule that go with it."""

    mechanism: str = "none"

    @property
    def model(self) -> str:
        """Of `bench.job`: what a participant loads."""
        return "shards" if self.mechanism == "noisy_max" else "model"

    def policy(self) -> Policy:
        """Of the federation."""
        sums = self.mechanism in {"none", "gaussian"}
        form, rule = (Form.PROBABILITIES, "soft") if sums else (Form.LABEL, "hard")
        # The bare pipeline waits for all answers, so this one must.
        quorum = job.PARTICIPANTS // 2 + 1
        central = NoisyMaxPolicy(epsilon=EPSILON) if self.mechanism == _CENTRAL else None
        return Policy(form=form, rules=(rule,), quorum=quorum, early_exit=False, noisy_max=central)

    def privacy(self, role: Role) -> dict[str, object] | None:
        """The section of a member's file; None where it needs none."""
        adds = Role.AGGREGATOR if self.mechanism == _CENTRAL else Role.PARTICIPANT
        if role is not adds or self.mechanism == "none":
            return {"mechanism": "none"} if role is Role.PARTICIPANT else None
        section: dict[str, object] = {
            "mechanism": "noisy_max" if self.mechanism == _CENTRAL else self.mechanism,
            "epsilon": EPSILON,
            "budget": 1e9,
            "ledger": "budget.ledger",
        }
        if self.mechanism == "gaussian":
            section |= {"epsilon": 2 * EPSILON, "delta": DELTA}
        return section


VARIANTS = {
    "sealed": Variant(),
    "noised": Variant("randomised_response"),
    "gaussian": Variant("gaussian"),
    "shards": Variant("noisy_max"),
    "central": Variant(_CENTRAL),
}
"""The pipelines of fi_stream itself."""


def make(setting: Setting, variant: Variant) -> dict[str, Identity]:
    """Write the federation and each member's directory; returns the members' keys."""
    roles = {f"p{number}": Role.PARTICIPANT for number in job.participants()}
    roles |= {AGGREGATOR: Role.AGGREGATOR, CLIENT: Role.CLIENT}
    identities = {name: Identity.generate(name) for name in roles}
    federation = federation_of(identities, roles, variant)
    setting.folder.mkdir(parents=True, exist_ok=True)
    (setting.folder / "federation.toml").write_text(federation_toml(federation), "utf-8")
    for name, identity in identities.items():
        identity.save(setting.folder / name / "keys")
        content: dict[str, object] = {
            "member": {"id": name, "federation": "../federation.toml", "keys": "keys"},
            "kafka": {"bootstrap.servers": setting.bootstrap},
        }
        if roles[name] is Role.PARTICIPANT:
            content["model"] = {"factory": "model:load", "gives": "logits", "threads": 1}
            code = _MODEL.format(number=name[1:], model=variant.model)
            (setting.folder / name / "model.py").write_text(code, "utf-8")
        privacy = variant.privacy(roles[name])
        if privacy is not None:
            content["privacy"] = privacy
        (setting.folder / name / "member.toml").write_text(dumps(content), "utf-8")
    return identities


def federation_of(
    identities: Mapping[str, Identity], roles: Mapping[str, Role], variant: Variant
) -> Federation:
    """The federation of these members, which does the job of the bench."""
    members = tuple(
        Member(**identity.card().model_dump(), roles=frozenset({roles[name]}))
        for name, identity in identities.items()
    )
    task = Task(
        kind="multiclass",
        classes=tuple(str(label) for label in range(job.CLASSES)),
        inputs=(TensorSpec(name="numbers", datatype=Datatype.FP32, shape=(job.NUMBERS,)),),
    )
    roster = Roster(version=1, members=members)
    return Federation(name="bench", task=task, policy=variant.policy(), roster=roster)


async def participant(setting: Setting, number: int, stop: asyncio.Event) -> None:
    """fi_stream's own role."""
    await run_participant(setting.folder / f"p{number}" / "member.toml", stop)


async def aggregator(setting: Setting, stop: asyncio.Event) -> None:
    """fi_stream's own role."""
    await run_aggregator(setting.folder / AGGREGATOR / "member.toml", stop)


@asynccontextmanager
async def client(setting: Setting, answers: Answers) -> AsyncIterator[FederatedAsker]:
    """fi_stream's own client."""
    async with connect(setting.folder / CLIENT / "member.toml") as connected:
        yield FederatedAsker(connected, answers)


class FederatedAsker:
    """Asks through the client's `post`; only a complete result counts."""

    def __init__(self, client: Client, answers: Answers) -> None:
        self._client = client
        self._answers = answers

    def post(self, row: NDArray[np.float32], token: int) -> None:
        """Ask one query."""
        result = self._client.post(row, deadline=DEADLINE)
        result.add_done_callback(partial(self._done, token))

    def _done(self, token: int, future: asyncio.Future[Result]) -> None:
        if future.cancelled():
            return
        result = future.result()
        complete = result.outcome is Outcome.COMPLETE and result.decided is not None
        label = int(result.decided.labels[0]) if complete and result.decided else None
        self._answers.take(token, label)
