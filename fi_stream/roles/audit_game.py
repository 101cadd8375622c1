"""The game that an audit plays: a small federation, a participant in it, and somebody who asks."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from fi_stream.errors import NoResult
from fi_stream.events.payloads import Abstain, Answer
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Datatype, to_array
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Policy, Protection
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.task import Task, TensorSpec
from fi_stream.federation.writing import dumps
from fi_stream.privacy.compatibility import TABLE
from fi_stream.privacy.guesses import VOTERS, Played
from fi_stream.roles.client import seated
from fi_stream.roles.keys import Keys
from fi_stream.roles.participant import run_participant
from fi_stream.roles.runtime import background
from fi_stream.roles.seat import take_seat
from fi_stream.roles.tally import Tally
from fi_stream.sealing.identity import Identity
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Assigned, Partition, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from fi_stream.federation.member import PrivacySection
    from fi_stream.roles.client import Client
    from fi_stream.transport.port import Reader

ROWS = 500
"""Of a query."""

_DEADLINE = 20.0
_START = 1.0
_PATIENCE = 60.0
_BUDGET = 1e9
_INPUT = "world"
_MODEL = """\
import json
from pathlib import Path

import numpy as np

PREDICTIONS = np.array(json.loads(Path(__file__).with_name("predictions.json").read_text()))


def load():
    return lambda inputs: PREDICTIONS[(inputs["world"][:, 0] > 0.5).astype(int)]
"""
_VOTING = """\
import numpy as np


def load():
    return predict


def predict(inputs):
    worlds = (inputs["world"][:, 0] > 0.5).astype(int)
    votes = np.eye({classes})[[0, 1]]
    first = [np.broadcast_to(votes[0], (len(worlds), {classes}))] * ({voters} // 2)
    second = [np.broadcast_to(votes[1], (len(worlds), {classes}))] * ({voters} // 2)
    return np.stack([*first, *second, votes[worlds]])
"""


@dataclass(frozen=True, slots=True)
class Game:
    """The member files of the three who play."""

    participant: Path
    reader: Path
    asker: Path


def write(
    home: Path,
    bootstrap: str,
    real: Federation,
    privacy: PrivacySection,
    predictions: NDArray[np.float64],
) -> Game:
    """Write the federation.

    Args:
        home: an empty directory.
        bootstrap: the broker's address.
        real: the participant's own federation; its classes, form and rules are taken over.
        privacy: of the participant; its ledger is not touched, and its budget not spent.
        predictions: [2, classes], what the planted model says in each world.
    """
    roles = {
        "audited": Role.PARTICIPANT,
        "reader": Role.AGGREGATOR,
        "asker": Role.CLIENT,
    }
    members = []
    module = f"audited_{uuid4().hex}"
    for name, role in roles.items():
        identity = Identity.generate(name)
        identity.save(home / name / "keys")
        members.append(Member(**identity.card().model_dump(), roles=frozenset({role})))
        content: dict[str, object] = {
            "member": {"id": name, "federation": "../federation.toml", "keys": "keys"},
            "kafka": {"bootstrap.servers": bootstrap},
        }
        if role is Role.PARTICIPANT:
            content["model"] = {
                "factory": f"{module}:load",
                "gives": "probabilities",
                "threads": 1,
            }
            asked = privacy.model_dump(mode="json", exclude_none=True, exclude={"budget_all"})
            content["privacy"] = asked | {"budget": _BUDGET, "ledger": "budget.ledger"}
            code = _MODEL
            if privacy.mechanism is Mechanism.NOISY_MAX:
                code = _VOTING.format(classes=predictions.shape[1], voters=VOTERS)
            (home / name / f"{module}.py").write_text(code, "utf-8")
            text = json.dumps(predictions.tolist())
            (home / name / "predictions.json").write_text(text, "utf-8")
        (home / name / "member.toml").write_text(dumps(content), "utf-8")
    federation = Federation(
        name=f"audit-{uuid4().hex[:8]}",
        task=Task(
            kind="multiclass",
            classes=real.task.classes,
            inputs=(TensorSpec(name=_INPUT, datatype=Datatype.FP32, shape=(1,)),),
        ),
        roster=Roster(version=1, members=tuple(members)),
        policy=Policy(
            form=real.policy.form, rules=_rules(privacy), protections=(Protection.TRUSTED,)
        ),
    )
    (home / "federation.toml").write_text(federation_toml(federation), "utf-8")
    return Game(*(home / name / "member.toml" for name in roles))


def _rules(privacy: PrivacySection) -> tuple[str, ...]:
    """All that can read such answers when the aggregator reads each."""
    return next(
        line.rules
        for line in TABLE
        if line.mechanism is privacy.mechanism and Protection.TRUSTED in line.protections
    )


async def play(
    game: Game,
    rows: int,
    predictions: NDArray[np.float64],
    told: Callable[[int, int], None] | None,
) -> Played:
    """Toss a coin for each row, ask, and keep what the participant's reader sees.

    Args:
        game: as `write` wrote it.
        rows: how many.
        predictions: [2, classes].
        told: is called with how many answers have come, and of how many.

    Raises:
        NoResult: the participant does not answer.
    """
    worlds = np.random.default_rng().integers(0, 2, rows).astype(np.bool_)
    most = max(1, min(ROWS, 100_000 // predictions.shape[1]))
    values, scale, come = [], None, 0
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        await stack.enter_async_context(
            background({"audit.participant": run_participant(game.participant, stop)})
        )
        asking = await stack.enter_async_context(_asking(game))
        await asking.begin()
        for start in range(0, rows, most):
            answer = await asking.answer(worlds[start : start + most])
            found = to_array(answer.outputs[0])
            if isinstance(found, Refusal):
                raise NoResult(f"an answer cannot be read: {found.detail}")
            values.append(found)
            scale, come = answer.scale, come + len(found)
            if told is not None:
                told(come, rows)
    return Played(worlds, predictions, np.concatenate(values), scale)


class _Asking:
    """Asks as the client, and opens what the participant says as the aggregator."""

    def __init__(self, client: Client, keys: Keys, reader: Reader) -> None:
        self._client = client
        self._keys = keys
        self._reader = reader

    async def begin(self) -> None:
        """Ask until the participant is there: it answers nothing from before."""
        ends = asyncio.get_running_loop().time() + _PATIENCE
        while asyncio.get_running_loop().time() < ends:
            if await self._asked(np.zeros(1, np.bool_), _START) is not None:
                return
        raise NoResult(f"the participant answered nothing within {_PATIENCE:g} s; see the log")

    async def answer(self, worlds: NDArray[np.bool_]) -> Answer:
        """The participant's answer to a query of these rows."""
        answer = await self._asked(worlds, _DEADLINE)
        if answer is None:
            raise NoResult(
                f"the participant did not answer {len(worlds)} rows within {_DEADLINE:g} s; "
                "see the log, or try again when the machine has less to do"
            )
        return answer

    async def _asked(self, worlds: NDArray[np.bool_], seconds: float) -> Answer | None:
        rows = worlds.astype(np.float32)[:, None]
        query = bytes.fromhex(self._client.post(rows, deadline=seconds).query_id)
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            records = await self._reader.poll(0.05)
            for record in self._keys.take_released() + records:
                event = self._keys.gate.admit(record, "response")
                if event is None or isinstance(event, Refusal):
                    continue
                if event.header.ask.query != query or event.header.reply is None:
                    continue
                payload = event.open(Answer if event.header.reply.kind == "answer" else Abstain)
                if isinstance(payload, Answer):
                    return payload
                if isinstance(payload, Abstain):
                    reason = Reason.from_code(payload.reason)
                    raise NoResult(f"the participant abstains: {reason}")
        return None


@asynccontextmanager
async def _asking(game: Game) -> AsyncIterator[_Asking]:
    topic = catalogue().responses.name
    async with take_seat(Role.AGGREGATOR, game.reader) as seat, seated(game.asker) as client:
        keys = Keys(seat, Tally("audit"))
        count = await seat.transport.partition_count(topic)
        what = Assigned(frozenset(Partition(topic, number) for number in range(count)), Start.END)
        async with seat.transport.reader(what) as reader:
            await reader.starts()
            works = {
                "audit.grants": keys.read_grants(),
                "audit.announce": keys.keep_announcing(),
            }
            async with background(works):
                await keys.ready.wait()
                yield _Asking(client, keys, reader)
