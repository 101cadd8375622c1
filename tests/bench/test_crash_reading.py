"""What real members seal reads back as the values that the checker sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.crash.checker import check
from bench.crash.federation import AGGREGATOR, Written, write
from bench.crash.history import History, Response, Span
from bench.crash.reading import Opened
from bench.crash.schedule import CLIENT, PARTICIPANTS, draw
from fi_stream.aggregation.evaluate import one_hot
from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.results import result_payloads
from fi_stream.clock import SystemClock
from fi_stream.events.header import Ask, Reply
from fi_stream.events.payloads import Abstain, Answer, Noise, Outcome, QueryPayload, frame
from fi_stream.events.query_id import new_query_id
from fi_stream.events.refusals import Reason
from fi_stream.events.tensors import Tensor, to_tensor
from fi_stream.federation.roster import Role
from fi_stream.sealing.audiences import audiences
from fi_stream.sealing.epochs import OwnEpoch, new_epoch
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.port import Partition, Record
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from fi_stream.events.payloads import ResultPayload

NOW = SystemClock().wall()
ROLES = {CLIENT: Role.CLIENT, AGGREGATOR: Role.AGGREGATOR} | dict.fromkeys(
    PARTICIPANTS, Role.PARTICIPANT
)
NUMBER = 2


class Log:
    """Records as members of one schedule's federation would append them."""

    def __init__(self, written: Written, *, granted: frozenset[str] = frozenset(ROLES)) -> None:
        self.written = written
        self.records: list[Record] = []
        self._epochs: dict[str, OwnEpoch] = {}
        for name, role in ROLES.items():
            ((purpose, audience),) = audiences(written.federation, role)
            sender = (name, purpose)
            identity = written.identities[name]
            epoch = new_epoch(identity, written.federation, sender, audience, NOW)
            self._epochs[name] = epoch
            if name in granted:
                self.append("keys", epoch.grant, 0)
        self.ask = Ask(
            query=new_query_id(NOW),
            partition=NUMBER,
            rule=written.federation.default_rule,
            rows=1,
            protection="trusted",
            created=NOW,
            deadline=NOW + 500,
        )
        number = tensor("number", np.zeros((1, 1), np.float32))
        self.query = self._epochs[CLIENT].seal(
            self.ask, None, frame(QueryPayload(inputs=(number,)))
        )
        self.append("queries", self.query.value, NUMBER)

    def answer(self, member: str, payload: Answer | Abstain, at: int) -> None:
        kind = "abstain" if isinstance(payload, Abstain) else "answer"
        reply = Reply(client=CLIENT, digest=self.query.digest, kind=kind)
        sealed = self._epochs[member].seal(self.ask, reply, frame(payload))
        self.append("responses", sealed.value, NUMBER, at)

    def result(self, payload: ResultPayload, at: int) -> None:
        reply = Reply(client=CLIENT, digest=self.query.digest, kind="result")
        sealed = self._epochs[AGGREGATOR].seal(self.ask, reply, frame(payload))
        self.append("results", sealed.value, NUMBER, at)

    def append(self, topic: str, value: bytes, number: int, at: int = 1) -> None:
        source = Partition(getattr(catalogue(), topic).name, number)
        offset, moment = len(self.records), BrokerMillis(NOW + at)
        self.records.append(Record(source, offset, moment, b"", value))


def tensor(name: str, values: np.ndarray) -> Tensor:
    made = to_tensor(name, values)
    assert isinstance(made, Tensor)
    return made


def probabilities(label: int, noise: Noise | None = None) -> Answer:
    row = one_hot(np.array([label]), len(PARTICIPANTS))
    return Answer(form="probabilities", outputs=(tensor("probabilities", row),), noise=noise)


def settled(log: Log, labels: dict[str, int], outcome: Outcome) -> ResultPayload:
    asked = Asked(CLIENT, log.query.digest, log.ask, 1, frozenset(PARTICIPANTS))
    answers = {
        member: Given(
            Answered(member, log.query.digest, BrokerMillis(NOW)),
            "",
            one_hot(np.array([label]), len(PARTICIPANTS)),
        )
        for member, label in labels.items()
    }
    missing = dict.fromkeys(sorted(set(PARTICIPANTS) - labels.keys()))
    (payload,) = result_payloads([Settled(asked, outcome, answers, missing)])
    return payload


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    schedule = next(s for s in (draw(1, n) for n in range(99)) if not s.noised)
    return write(tmp_path_factory.mktemp("crash") / "federation", "127.0.0.1:1", schedule)


def history(log: Log) -> History:
    opened = Opened(log.records, log.written)
    assert not opened.refused
    served = (Span(NOW - 1_000, NOW + 60_000),)
    return History(opened.queries, opened.responses, opened.results, served, NOW + 60_000)


def test_a_whole_query_reads_back_and_has_no_fault(written: Written) -> None:
    log = Log(written)
    labels = {member: label for label, member in enumerate(PARTICIPANTS)}
    for member, label in labels.items():
        log.answer(member, probabilities(label), 20)
    log.result(settled(log, labels, Outcome.COMPLETE), 30)
    found = history(log)
    assert [(q.id, q.at, q.deadline) for q in found.queries] == [
        (log.ask.query.hex(), NOW + 1, NOW + 500)
    ]
    assert [(r.member, r.label, r.at) for r in found.responses] == [
        (member, label, NOW + 20) for member, label in labels.items()
    ]
    (result,) = found.results
    assert (result.outcome, result.contributors) == ("complete", PARTICIPANTS)
    assert result.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert not check(found, written.terms()).faults


def test_an_answer_that_was_left_out_is_found_in_real_events(written: Written) -> None:
    log = Log(written)
    for label, member in enumerate(PARTICIPANTS):
        log.answer(member, probabilities(label), 20)
    log.result(settled(log, {"p1": 0, "p2": 1}, Outcome.PARTIAL), 490)
    faults = check(history(log), written.terms()).faults
    assert len(faults) == 1
    assert "p3 is missing as silent" in faults[0].what


def test_a_double_count_is_found_in_real_events(written: Written) -> None:
    log = Log(written)
    for label, member in enumerate(PARTICIPANTS):
        log.answer(member, probabilities(label), 20)
    payload = settled(log, {"p1": 0, "p2": 1, "p3": 2}, Outcome.COMPLETE)
    shares = tensor("scores", np.array([[0.5, 0.25, 0.25]]))
    payload = payload.model_copy(update={"outputs": (payload.outputs[0], shares)})
    log.result(payload, 30)
    (fault,) = check(history(log), written.terms()).faults
    assert fault.column == "doubled"


def test_abstentions_and_costs_are_read(written: Written) -> None:
    log = Log(written)
    log.answer("p1", Abstain(reason=Reason.OVER_BUDGET.code), 20)
    noise = Noise(mechanism="randomised_response", epsilon=4.0, delta=0.0, total=8.0)
    log.answer("p2", probabilities(1, noise), 21)
    first, second = history(log).responses
    assert isinstance(first, Response)
    assert (first.label, first.reason, first.cost) == (None, "over_budget", 0)
    assert (second.label, second.reason, second.cost) == (1, None, 4 * 10**9)


def test_what_no_member_sealed_is_no_event(written: Written) -> None:
    log = Log(written)
    log.append("results", b"\xff", NUMBER)
    value = bytearray(log.query.value)
    value[-1] ^= 1  # the last reader's tag, the aggregator's
    log.append("queries", bytes(value), NUMBER)
    opened = Opened(log.records, written)
    assert dict(opened.refused) == {"malformed": 1, "bad_tag": 1}
    assert (len(opened.queries), opened.results) == (1, ())


def test_events_without_a_grant_are_counted(written: Written) -> None:
    log = Log(written, granted=frozenset(ROLES) - {"p1"})
    log.answer("p1", probabilities(0), 20)
    opened = Opened(log.records, written)
    assert opened.responses == ()
    assert sum(opened.refused.values()) == 1
