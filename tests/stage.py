"""A federation on disk and its roles as tasks of one process, over a broker of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import structlog
from members import TASK
from structlog.testing import capture_logs

from fi_stream.events.envelope import decode_envelope
from fi_stream.events.header import Ask
from fi_stream.events.payloads import QueryPayload, ResultPayload, frame
from fi_stream.events.query_id import new_query_id
from fi_stream.events.refusals import Refusal
from fi_stream.federation.federation import Federation
from fi_stream.federation.files import federation_toml
from fi_stream.federation.policy import Limits, Policy
from fi_stream.federation.roster import Member, Role, Roster
from fi_stream.federation.rows import encode_rows
from fi_stream.federation.task import Task
from fi_stream.federation.writing import value
from fi_stream.roles.aggregator import run_aggregator
from fi_stream.roles.helper import run_helper
from fi_stream.roles.keys import Keys
from fi_stream.roles.participant import run_participant
from fi_stream.roles.seat import take_seat
from fi_stream.roles.tally import Tally
from fi_stream.sealing.gate import Verified
from fi_stream.sealing.identity import Identity
from fi_stream.sealing.published import RosterKey
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.port import Assigned, Outgoing, Partition, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
    from pathlib import Path

    from fi_stream.roles.seat import Seat
    from fi_stream.transport.port import Reader, Record

MODEL = """\
import time

import numpy as np


def load():
    return predict


def predict(inputs):
    x = inputs["x"].astype(np.float64)
    {body}
    return np.exp(x[:, :3]) / np.exp(x[:, :3]).sum(axis=1, keepdims=True)
"""
"""Probabilities of cat, dog, bird are the softmax of a row's first three numbers."""

EVERY_PROTECTION = {"protections": ("trusted", "blind")}
NO_NOISE = 'mechanism = "none"'
ODD = "if (x[:, 3] == 77).any(): "
"""What a model does with rows of `odd`, and not with those of its trial at start."""

RAISES = ODD + 'raise ValueError("no")'


def noise(epsilon: float, budget: float) -> str:
    return (
        f'mechanism = "randomised_response"\nepsilon = {epsilon}\nbudget = {budget}\n'
        'ledger = "budget.ledger"'
    )


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """[count, 4] of FP32: the class of each row is where its first three numbers are largest."""
    drawn = np.random.default_rng(seed).normal(0, 3, (count, 4))
    return drawn.astype(np.float32)


def odd(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows that models of `ODD` behave oddly for."""
    drawn = rows(count, seed)
    drawn[:, 3] = 77
    return drawn


def names_of(drawn: np.ndarray[Any, Any]) -> list[str]:
    """What a federation of these models says to such rows."""
    return [TASK.classes[number] for number in np.atleast_2d(drawn)[:, :3].argmax(axis=1)]


@dataclass
class Stage:
    """The files of one federation, and what its roles have logged."""

    directory: Path
    bootstrap: str
    federation: Federation
    roster_key: RosterKey
    logs: list[Mapping[str, Any]] = field(default_factory=list)

    def file(self, member: str) -> Path:
        return self.directory / member / "member.toml"

    def events(self, name: str, **where: object) -> list[Mapping[str, Any]]:
        """What was logged under that name, with these fields."""
        return [one for one in self.logs if one["event"] == name and where.items() <= one.items()]

    @asynccontextmanager
    async def running(self, *members: str) -> AsyncIterator[dict[str, Running]]:
        """These members' roles, ready; a name twice is two replicas. They are stopped on exit."""
        before = len(self.logs)
        async with AsyncExitStack() as stack:
            everyone = [Running(self, member) for member in members]
            running = {one.member: one for one in everyone}
            for one in everyone:
                stack.push_async_callback(one.stop)
            async with asyncio.timeout(60):
                while not all(
                    len([e for e in self.logs[before:] if _says_ready(e, member)])
                    >= members.count(member)
                    for member in members
                ):
                    for one in everyone:
                        one.check()
                    await asyncio.sleep(0.01)
            stack.callback(lambda: [one.ask_to_stop() for one in everyone])
            yield running

    @asynccontextmanager
    async def wire(self, member: str, role: Role, *, announce: bool = True) -> AsyncIterator[Wire]:
        """A member's own keys and connection, to send whatever a test likes."""
        async with take_seat(role, self.file(member)) as seat:
            keys = Keys(seat, Tally(member))
            if announce:
                await keys.announce()
            else:
                keys.own.take(keys.own.missing())  # sealed under before anybody can know of them
            yield Wire(seat, keys)


RUN = {
    Role.AGGREGATOR: run_aggregator,
    Role.PARTICIPANT: run_participant,
    Role.HELPER: run_helper,
}


class Running:
    """One role as a task."""

    def __init__(self, stage: Stage, member: str) -> None:
        self._stage = stage
        self.member = member
        self._stop = asyncio.Event()
        entry = stage.federation.member(member)
        assert entry is not None
        [run] = (RUN[role] for role in entry.roles)
        self.task = asyncio.create_task(run(stage.file(member), self._stop), name=member)

    def check(self) -> None:
        if self.task.done():
            self.task.result()

    def ask_to_stop(self) -> None:
        """What a signal does."""
        self._stop.set()

    async def stop(self) -> Mapping[str, int]:
        """End it; returns what this member's processes had refused so far, by reason."""
        self.ask_to_stop()
        if not self.task.cancelled():
            async with asyncio.timeout(10):
                await self.task
        refused: Counter[str] = Counter()
        for one in self._stage.events("stopped", member=self.member):
            refused.update(one["refused"])
        return refused

    async def kill(self) -> None:
        """End it as a crash would: nothing is finished, nothing committed."""
        self.task.cancel()
        await asyncio.wait([self.task])


@dataclass
class Wire:
    """A member that seals what it likes and puts it where it likes."""

    seat: Seat
    keys: Keys

    async def put(self, topic: str, number: int, value: bytes, key: bytes = b"key") -> None:
        assert await self.seat.publish([Outgoing(Partition(topic, number), key, value)])

    def ask(self, **changes: object) -> Ask:
        """A header that everybody accepts, but for the changes."""
        now = self.seat.clock.now()
        fields = {
            "query": new_query_id(now),
            "partition": 2,
            "rule": "soft",
            "rows": 1,
            "protection": "trusted",
            "created": now,
            "deadline": now + 2000,
        }
        return Ask.model_validate({**fields, **changes})

    def query(self, row: np.ndarray[Any, Any], **changes: object) -> tuple[Ask, Outgoing]:
        """A sealed query of one row, in the partition that its header names."""
        ask = self.ask(**changes)
        _, inputs = encode_rows(row, self.seat.federation.task)
        sealed = self.keys.own.find().seal(ask, None, frame(QueryPayload(inputs=inputs)))
        return ask, Outgoing(Partition("fi.queries", ask.partition), ask.query, sealed.value)

    async def kept(self, topic: str) -> list[Record]:
        """Everything that the broker has of a topic."""
        count = await self.seat.transport.partition_count(topic)
        partitions = frozenset(Partition(topic, number) for number in range(count))
        found: list[Record] = []
        async with self.seat.transport.reader(Assigned(partitions, Start.BEGINNING)) as reader:
            ends = await reader.ends(partitions)
            while any(at < ends[each] for each, at in (await reader.starts()).items()):
                found += await reader.poll(0.1)
        return found

    @asynccontextmanager
    async def results(self) -> AsyncIterator[Results]:
        """Read this client's results from now on."""
        reading = Assigned(frozenset(Partition("fi.results", n) for n in range(4)), Start.END)
        async with self.seat.transport.reader(reading) as reader:
            await reader.starts()
            listening = asyncio.create_task(self.keys.read_grants())
            try:
                await self.keys.caught_up.wait()
                yield Results(self, reader)
            finally:
                listening.cancel()
                await asyncio.wait([listening])


@dataclass
class Results:
    """The results of one client, whoever reads them, each as often as it was appended."""

    wire: Wire
    reader: Reader
    found: list[tuple[Verified, ResultPayload]] = field(default_factory=list)

    async def gather(self, seconds: float) -> list[tuple[Verified, ResultPayload]]:
        """All that come within so many seconds."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            await self._poll(left)
        return self.found

    async def next(self, within: float = 30.0) -> tuple[Verified, ResultPayload]:
        """The next one."""
        async with asyncio.timeout(within):
            while not self.found:
                await self._poll(0.1)
        return self.found.pop(0)

    async def _poll(self, wait: float) -> None:
        for record in await self.reader.poll(wait):
            event = self.wire.keys.gate.admit(record, "result")
            if event is None:
                continue  # another client's, under an epoch that is not for us
            assert isinstance(event, Verified), event
            if event.header.reply.client == self.wire.seat.settings.id:
                self.found.append((event, event.open(ResultPayload)))


async def nothing_is_answered_twice(stage: Stage) -> None:
    """Of each query at most one result, and of each participant at most one response.

    A send that was not acknowledged may be there again, the same to the byte.
    """
    async with stage.wire("bob", Role.CLIENT, announce=False) as wire:
        for topic in (catalogue().responses.name, catalogue().results.name):
            seen: dict[tuple[bytes, str], bytes] = {}
            for record in await wire.kept(topic):
                decoded = decode_envelope(record.value)
                assert not isinstance(decoded, Refusal)
                header = decoded[1]
                if header.task == stage.federation.task.hash:
                    first = seen.setdefault((header.ask.query, header.sender), record.value)
                    assert first == record.value, topic


def build(
    directory: Path,
    bootstrap: str,
    *,
    participants: int = 3,
    models: Mapping[str, str] | None = None,
    privacy: str = NO_NOISE,
    central: str = "",
    policy: Mapping[str, Any] | None = None,
    limits: Mapping[str, int] | None = None,
    kafka: str = "",
) -> Stage:
    """Write a federation: p1 .., agg, alice, bob, and under secagg a helper.

    Args:
        directory: a new one.
        bootstrap: the broker's address.
        participants: how many.
        models: by participant, a line of Python inside its `predict`, of the rows `x`.
        privacy: the `[privacy]` of every participant.
        central: that of the aggregator, if any.
        policy: of the federation; quorum 2 and every answer awaited, unless it says otherwise.
        limits: of its policy.
        kafka: more lines of everybody's `[kafka]`.
    """
    models = models or {}
    roles = {f"p{number}": Role.PARTICIPANT for number in range(1, participants + 1)}
    roles |= {"agg": Role.AGGREGATOR, "alice": Role.CLIENT, "bob": Role.CLIENT}
    if policy and "secagg" in policy.get("protections", ()):
        roles["helper"] = Role.HELPER
    unique = uuid4().hex[:8]
    members = []
    for name, role in roles.items():
        identity = Identity.generate(name)
        identity.save(directory / name / "keys")
        members.append(Member(**identity.card().model_dump(), roles=frozenset({role})))
        text = (
            f'[member]\nid = "{name}"\nfederation = "../federation.toml"\nkeys = "keys"\n'
            f"[kafka]\nbootstrap.servers = {value(bootstrap)}\n{kafka}\n"
        )
        if role is Role.PARTICIPANT:
            module = f"model_{unique}_{name}"
            body = models.get(name, "pass")
            (directory / name / f"{module}.py").write_text(MODEL.replace("{body}", body))
            text += f'[model]\nfactory = "{module}:load"\ngives = "probabilities"\nthreads = 1\n'
            text += f"[privacy]\n{privacy}\n"
        elif role is Role.HELPER:
            text += '[helper]\nstore = "releases.sqlite"\n'
        elif role is Role.AGGREGATOR and central:
            text += f"[privacy]\n{central}\n"
        (directory / name / "member.toml").write_text(text)
    roster_key = RosterKey.generate(f"test-{unique}")
    federation = Federation(
        name=f"test-{unique}",
        signing_key=roster_key.public,
        task=Task.model_validate({**TASK.model_dump(), "output": f"of-{unique}"}),
        roster=Roster(version=1, members=tuple(members)),
        policy=Policy(
            **{
                "quorum": 2,
                "early_exit": False,
                "limits": Limits(**(limits or {})),
                **(policy or {}),
            }
        ),
    )
    (directory / "federation.toml").write_text(federation_toml(federation))
    return Stage(directory, bootstrap, federation, roster_key)


def say_examples(stage: Stage, examples: dict[str, int]) -> None:
    """Write how many examples these participants have into the federation's file."""
    roster = stage.federation.roster
    members = tuple(
        each.model_copy(update={"examples": examples.get(each.id)}) for each in roster.members
    )
    roster = roster.model_copy(update={"members": members})
    text = federation_toml(stage.federation.model_copy(update={"roster": roster}))
    (stage.directory / "federation.toml").write_text(text)


@contextmanager
def everything_logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What this process logs, whatever an earlier test had set up."""
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


@asynccontextmanager
async def at_work(directory: Path, *members: str, **wanted: Any) -> AsyncIterator[Stage]:
    """A federation on a broker of its own, with these members' roles running."""
    with everything_logged() as logs, EmbeddedBroker() as broker:
        stage = build(directory, broker.bootstrap, **wanted)
        stage.logs = logs
        async with stage.running(*members):
            yield stage


async def until(true: Any, within: float = 60.0) -> None:
    """Wait until it is so."""
    ends = time.monotonic() + within
    while not true():
        assert time.monotonic() < ends, "it never became so"
        await asyncio.sleep(0.01)


def _says_ready(event: Mapping[str, Any], member: str) -> bool:
    return event["event"] == "ready" and event.get("member") == member
