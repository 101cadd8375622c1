"""Leaders and helpers that read in any order, crash at any instant and are replaced: one set.

A log without a broker: what is published stays, and whoever starts reads it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fi_stream.aggregation.facts import Answered, Asked, Given, Half, Settled
from fi_stream.events.header import Ask
from fi_stream.events.payloads import Outcome
from fi_stream.secagg.proposal import Proposals, Propose
from fi_stream.secagg.release import Held, Proposed, Ready, Refused, Releases
from fi_stream.secagg.sets import Identity, ShareSet, set_digest
from fi_stream.secagg.shares import Bound, added, opened, split
from fi_stream.secagg.store import Entry, ReleaseStore
from fi_stream.values import BrokerMillis, Instant

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MEMBERS = ("p1", "p2", "p3", "p4")
LEAST = 2
ASK = Ask(
    query=b"q" * 16,
    partition=0,
    rule="soft",
    rows=1,
    protection="secagg",
    created=0,
    deadline=1000,
)
IDENTITY = Identity("alice", ASK.query, b"d" * 32)
KEY = ("alice", ASK.query)
END = Instant(1.0)


def bound(member: str) -> Bound:
    return Bound("alice", ASK.query, b"d" * 32, member, 1, 4)


@dataclass
class Response:
    """One answer on the log; a participant that crashed may have another."""

    member: str
    share: bytes
    seed: bytes
    answer: np.ndarray
    offset: int

    @property
    def half(self) -> np.ndarray:
        return split(self.answer, self.seed, bound(self.member))


@dataclass
class Result:
    members: ShareSet
    total: np.ndarray
    leader: np.ndarray


@dataclass
class Log:
    responses: list[Response] = field(default_factory=list)
    proposals: list[tuple[ShareSet, np.ndarray, int]] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


class Leader:
    """One that has read the log up to some offset, and joined what it found."""

    def __init__(self, log: Log, read: int) -> None:
        self.log = log
        self.proposals = Proposals(LEAST)
        self.refusals = len(log.refusals)
        first: dict[str, Response] = {}
        for response in log.responses[:read]:
            first.setdefault(response.member, response)
        self.told: list[Settled] = []
        if first and not log.results:
            self._act(self.proposals.settled(self._settled(first), END, Instant(0.0)))

    def hear(self) -> None:
        """Read refusals and results."""
        for refused in self.log.refusals[self.refusals :]:
            digest, bad = refused.proposed.digest, dict(refused.bad)
            self._act(self.proposals.refused(KEY, digest, bad, refused.reason))
        self.refusals = len(self.log.refusals)
        if self.log.results:
            self.proposals.result(KEY)

    def _settled(self, first: dict[str, Response]) -> Settled:
        asked = Asked("alice", b"d" * 32, ASK, 1, frozenset(MEMBERS))
        answers = {
            member: Given(
                Answered(member, b"d" * 32, BrokerMillis(1), response.offset),
                "m",
                None,
                half=Half(response.share, response.half),
            )
            for member, response in first.items()
        }
        missing = dict.fromkeys(sorted(set(MEMBERS) - first.keys()))
        return Settled(asked, Outcome.PARTIAL, answers, missing)

    def _act(self, found: object) -> None:
        if isinstance(found, Propose):
            answers = found.settled.answers.values()
            total = added(given.half.values for given in answers if given.half is not None)
            read = 1 + max(given.answered.offset for given in answers)
            self.log.proposals.append((found.members, total, read))
        elif isinstance(found, Settled):
            self.told.append(found)


class Helper:
    """One process; what it recorded and did not publish is lost when it crashes."""

    def __init__(self, log: Log, file: Path) -> None:
        self.log = log
        self.store = ReleaseStore(file)
        self.releases = Releases(LEAST)
        self.read = self.seen = 0
        self.halves: dict[bytes, np.ndarray] = {}
        self.ready: list[Ready] = []

    def close(self) -> None:
        self.store.__exit__(None, None, None)

    def take(self, responses: int, proposals: int) -> None:
        """Read on, on both topics, as far as it comes."""
        for response in self.log.responses[self.read : self.read + responses]:
            held = Held(ASK, response.seed)
            self.releases.share(IDENTITY, response.member, response.share, held, END)
            self.read += 1
        for members, total, read in self.log.proposals[self.seen : self.seen + proposals]:
            until = Instant(1.0)
            one = Proposed(IDENTITY, ASK, 1, "agg", members, b"half", read, until)
            self.halves[one.digest] = total
            refused = self.releases.propose(one)
            if isinstance(refused, Refused):
                self.log.refusals.append(refused)
            self.seen += 1
        for decided in self.releases.decide(self.read, Instant(0.0)):
            if isinstance(decided, Ready):
                self.ready.append(decided)
            else:
                self.log.refusals.append(decided)

    def act(self, *, crash: bool) -> None:
        """Record, then publish, unless it crashes in between."""
        ready, self.ready = self.ready, []
        entries = [
            Entry(IDENTITY.name, one.proposed.digest, BrokerMillis(ASK.deadline)) for one in ready
        ]
        verdicts = self.store.record(entries)
        if crash:
            return
        for one, verdict in zip(ready, verdicts, strict=True):
            if verdict.may_leave:
                leader = self.halves[one.proposed.digest]
                self.log.results.append(Result(one.proposed.members, one.total(4), leader))


class SecureSum:
    """One query, from its answers to whatever is opened of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.log = Log()
        self.leaders: list[Leader] = []
        self.helpers = [Helper(self.log, self.file), Helper(self.log, self.file)]
        for number, member in enumerate(MEMBERS[:3]):
            self.answer(MEMBERS.index(member), number)

    def answer(self, member: int, number: int) -> None:
        """Also once more, after a crash, under another seed."""
        offset = len(self.log.responses)
        made = np.array([[number, 1, 2, 2**16]], dtype=np.int64)
        share, seed = offset.to_bytes(16, "big"), offset.to_bytes(32, "big")
        self.log.responses.append(Response(MEMBERS[member], share, seed, made, offset))

    def leader(self, read: int, _: int) -> None:
        """Another takes over, having read so much; the old one may still live."""
        read = 2 + read % (len(self.log.responses) - 1)
        self.leaders = [*self.leaders[-1:], Leader(self.log, read)]

    def hear(self, which: int, _: int) -> None:
        """A leader reads what was refused."""
        for leader in self.leaders[which % 2 :]:
            leader.hear()

    def read(self, which: int, many: int) -> None:
        """A helper reads on."""
        self.helpers[which % 2].take(many, 1 + which // 2)

    def publish(self, which: int, _: int) -> None:
        """A helper does what it has decided."""
        self.helpers[which % 2].act(crash=False)

    def crash(self, which: int, recorded: int) -> None:
        """A helper ends, perhaps after it has recorded what it decided, and another starts."""
        if recorded % 2:
            self.helpers[which % 2].act(crash=True)
        self.helpers[which % 2].close()
        self.helpers[which % 2] = Helper(self.log, self.file)

    def check(self) -> None:
        """One set at most was opened, and its sum is that of its answers."""
        results = self.log.results
        assert len({set_digest(result.members) for result in results}) <= 1
        for result in results:
            shares = {response.share: response for response in self.log.responses}
            chosen = [shares[share] for _, share in result.members]
            whole = np.sum([response.answer for response in chosen], axis=0)
            assert len(result.members) >= LEAST
            assert (opened(result.leader, result.total) == whole).all()
            assert (result.total == results[0].total).all()


DOING = ("answer", "leader", "leader", "hear", "read", "read", "publish", "crash")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(DOING), st.integers(0, 3), st.integers(0, 5)),
        min_size=6,
        max_size=30,
    )
)
def test_whoever_crashes_one_set_is_opened_and_its_sum_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    made = SecureSum(tmp_path_factory.mktemp("store") / "store")
    for what, which, number in steps:
        getattr(made, what)(which, number)
        made.check()
    for helper in made.helpers:  # in the end, with nobody crashing, what was recorded is opened
        helper.take(len(made.log.responses), len(made.log.proposals))
        helper.act(crash=False)
    made.check()
    assert bool(made.log.results) == bool(len(made.helpers[0].store))
    for helper in made.helpers:
        helper.close()
