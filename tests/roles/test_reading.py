"""A blind query: the aggregator relays what it cannot open, and its client decides by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from desk import OTHER, SURE, UNSURE, Asker, Desk, Query
from members import parts, with_header

from fi_stream.aggregation.answers import Reading, open_response
from fi_stream.aggregation.results import result_payloads
from fi_stream.events.envelope import encode_envelope
from fi_stream.events.payloads import Answer, Contributor, Outcome, QueryPayload
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.federation.policy import Form, Protection
from fi_stream.privacy.mechanisms import DiscreteGaussian, RandomisedResponse
from fi_stream.roles.result import Result
from fi_stream.sealing.epochs import KEY_LIFE, RENEWAL
from fi_stream.sealing.gate import Verified

if TYPE_CHECKING:
    from fi_stream.aggregation.facts import Settled
    from fi_stream.transport.port import Record

BOTH = (Protection.TRUSTED, Protection.BLIND)
MEMBERS = ("p1", "p2", "p3")


def blind(**policy: object) -> tuple[Desk, Query, Asker]:
    """A blind query that the aggregator has read, and its client, who has everybody's grants."""
    desk = Desk(protections=BOTH, **policy)
    query = desk.query(protection="blind")
    asker = Asker(desk)
    asker.hears(*MEMBERS)
    assert desk.take(query.record) == []
    return desk, query, asker


def settled_of(desk: Desk, *responses: Record) -> Settled:
    (settled,) = desk.take(*responses)
    return settled


def read(asker: Asker, query: Query, record: Record) -> Result:
    result = asker.reads(query, record)
    assert isinstance(result, Result), result
    return result


def relayed(settled: Settled, **events: bytes) -> tuple[bytes, ...]:
    """What was relayed, but for these; an empty one is left out."""
    return tuple(one for one in {**settled.relayed, **events}.values() if one)


def test_an_aggregator_has_no_key_to_open_what_it_joins() -> None:
    desk, query, _ = blind()
    record = query.says("p1", SURE)
    event = desk.members.gate("agg").admit(record, "response")
    assert isinstance(event, Verified)
    assert event.epoch.content is None
    refusal = event.open(Answer)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.DECRYPTION_FAILED
    # The query, too: it is for participants alone.
    event = desk.members.gate("agg").admit(query.record, "query")
    assert isinstance(event, Verified)
    assert isinstance(event.open(QueryPayload), Refusal)


def test_another_client_cannot_open_what_is_relayed_to_one() -> None:
    desk, query, _ = blind()
    heard = desk.members.gate("bob").admit(query.says("p1", SURE), "response")
    assert heard is None, "it waits for a grant that is not for it"


@pytest.mark.parametrize("rule", ["soft", "hard", "entropy"])
def test_the_same_answers_give_the_result_that_trusted_gives_to_the_bit(rule: str) -> None:
    drawn = np.random.default_rng(7).dirichlet((0.4, 0.4, 0.4), (50, 3))
    desk = Desk(protections=BOTH, early_exit=False)
    asker = Asker(desk)
    asker.hears(*MEMBERS)
    for answers in drawn:
        results = []
        for protection in ("blind", "trusted"):
            query = desk.query(protection=protection, rule=rule)
            said = (query.says(m, answers[n : n + 1]) for n, m in enumerate(MEMBERS))
            settled = settled_of(desk, query.record, *said)
            results.append(read(asker, query, query.result(settled)))
        one, other = results
        assert one.decided is not None
        assert other.decided is not None
        assert one.decided.scores.tobytes() == other.decided.scores.tobytes()
        assert one.contributors == other.contributors
        assert (one.outcome, one.missing) == (other.outcome, other.missing)


def test_nothing_is_decided_early_and_all_are_waited_for() -> None:
    desk, query, asker = blind()
    assert desk.decide(query.says("p1", SURE), query.says("p2", SURE)) == []
    settled = settled_of(desk, query.says("p3", OTHER))
    assert settled.outcome == "complete"
    assert read(asker, query, query.result(settled)).outcome == "complete"


def test_a_silent_one_and_an_abstain_are_missing_as_they_would_be_under_trusted() -> None:
    results = []
    for protection in ("blind", "trusted"):
        desk = Desk(protections=BOTH, quorum=1, early_exit=False)
        query = desk.query(protection=protection)
        asker = Asker(desk)
        asker.hears(*MEMBERS)
        abstain = query.abstains("p3", Reason.OVERLOADED, 40)
        assert desk.take(query.record, query.says("p1", SURE), abstain) == []
        desk.time.advance(500)
        (settled,) = desk.due()
        record = query.result(settled)
        results.append(read(asker, query, record))
    for result in results:
        assert result.outcome == "partial"
        assert result.missing == {"p2": "silent", "p3": "overloaded"}
        assert result.retry_after_ms == 40
        assert result.labels == ["cat"]


def test_what_the_aggregator_says_of_labels_scores_and_contributors_is_not_looked_at() -> None:
    desk, query, asker = blind()
    settled = settled_of(desk, *(query.says(m, SURE) for m in MEMBERS))
    liar = Desk(early_exit=False)
    other = liar.query()
    (lie,) = result_payloads(
        liar.take(other.record, *(other.says(m, OTHER) for m in MEMBERS)),
    )
    stranger = (Contributor(member="nobody", model="m"),)
    for outcome in Outcome:
        record = query.result(settled, outcome=outcome, outputs=lie.outputs, contributors=stranger)
        result = read(asker, query, record)
        if outcome is Outcome.REJECTED:
            assert (result.outcome, result.labels) == ("rejected", None)
            continue
        assert (result.outcome, result.labels) == ("complete", ["cat"])
        assert [one.member for one in result.contributors] == list(MEMBERS)


def tampered(value: bytes) -> bytes:
    envelope, _ = parts(value)
    sealed = bytes([envelope.sealed[0] ^ 1]) + envelope.sealed[1:]
    return encode_envelope(envelope.header, envelope.nonce, sealed, envelope.tags)


def of_another_query(desk: Desk, _: Query) -> bytes:
    return desk.query(protection="blind").says("p2", SURE).value


def to_another_event(desk: Desk, query: Query) -> bytes:
    return Query(desk, query.ask, b"?" * 32, query.record).says("p2", SURE).value


def as_of(member: str, query: Query) -> bytes:
    return with_header(query.says("p2", SURE).value, {"sender": member})


BAD = {
    "flipped": (lambda _, q: tampered(q.says("p2", SURE).value), "bad_tag"),
    "noise": (lambda _, __: b"\xdc\xff\xff" * 50, "malformed"),
    "a query": (lambda _, q: q.record.value, "wrong_topic"),
    "to another query": (of_another_query, "wrong_query"),
    "to another event": (to_another_event, "wrong_query"),
    "another's": (lambda _, q: as_of("p3", q), "unknown_epoch"),
    "no prediction": (lambda _, q: q.says("p2", 2 * SURE).value, "not_a_prediction"),
    "more rows": (lambda _, q: q.says("p2", np.repeat(SURE, 2, axis=0)).value, "wrong_shape"),
    "for other rows": (lambda _, q: q.says("p2", SURE, rows=2).value, "wrong_query"),
    "by a client": (lambda _, q: as_of("bob", q), "wrong_role"),
    "a second one of p1": (lambda _, q: q.says("p1", OTHER).value, "duplicate"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_response_within_is_refused_by_the_client_and_counted(what: str) -> None:
    make, reason = BAD[what]
    desk, query, asker = blind()
    settled = settled_of(desk, *(query.says(m, SURE) for m in MEMBERS))
    record = query.result(settled, responses=relayed(settled, p2=make(desk, query)))
    result = read(asker, query, record)
    assert asker.tally.counts() == {reason: 1}
    assert result.labels == ["cat"]
    assert [one.member for one in result.contributors] == ["p1", "p3"]
    said = (
        "p2"
        if what in {"flipped", "to another query", "to another event", "no prediction", "more rows"}
        else None
    )
    if said is not None:
        assert result.missing == {"p2": reason}
        assert result.outcome == "complete"  # each is accounted for
    else:
        assert list(result.missing) == ["p2"]


def test_when_too_few_good_ones_remain_it_is_no_quorum_whatever_the_result_says() -> None:
    desk, query, asker = blind()
    settled = settled_of(desk, *(query.says(m, SURE) for m in MEMBERS))
    bad = {m: tampered(settled.relayed[m]) for m in ("p1", "p2")}
    result = read(asker, query, query.result(settled, responses=relayed(settled, **bad)))
    assert (result.outcome, result.labels, result.contributors) == ("no_quorum", None, ())
    assert result.missing == {"p1": "bad_tag", "p2": "bad_tag"}
    assert result.guarantee is None
    # The same when the aggregator leaves answers out and calls it complete.
    fewer = relayed(settled, p1=b"", p2=b"")
    result = read(asker, query, query.result(settled, responses=fewer))
    assert (result.outcome, result.missing) == ("no_quorum", {"p1": "silent", "p2": "silent"})


def test_a_participant_cannot_make_the_result_too_large_to_send() -> None:
    """Whoever sends the largest event that the policy allows is refused, and nobody else."""
    desk = Desk(protections=BOTH, limits=Desk().members.federation.policy.limits)
    query = desk.query(protection="blind")
    most = desk.members.federation.response_bytes(1)
    large = query.abstains("p1", Reason.OVERLOADED, size=most)
    assert most < len(large.value) < 2 * most
    settled = settled_of(desk, query.record, large, query.says("p2", SURE), query.says("p3", SURE))
    assert desk.tally.counts() == {"too_large": 1}
    assert list(settled.relayed) == ["p2", "p3"]
    assert settled.missing == {"p1": Reason.TOO_LARGE}
    asker = Asker(desk)
    asker.hears(*MEMBERS)
    result = read(asker, query, query.result(settled))
    assert (result.outcome, result.missing) == ("complete", {"p1": "too_large"})


def test_every_true_response_is_within_what_admission_counts_on() -> None:
    desk = Desk(protections=BOTH)
    query = desk.query(protection="blind", rows=50)
    rows = np.repeat(UNSURE, 50, axis=0)
    most = desk.members.federation.response_bytes(50)
    for record in (
        query.says("p1", rows),
        query.says("p1", rows, scale=2**16),
        query.abstains("p1", Reason.OVERLOADED, 2**31 - 1),
    ):
        assert len(record.value) <= most


def test_a_response_whose_grant_has_not_come_is_waited_for_and_then_left_out() -> None:
    desk = Desk(protections=BOTH)
    query = desk.query(protection="blind")
    asker = Asker(desk)
    asker.hears("p1", "p2")
    settled = settled_of(desk, query.record, *(query.says(m, SURE) for m in MEMBERS))
    record = query.result(settled)
    assert asker.reads(query, record, waits=True) is None
    late = read(asker, query, record)
    assert late.missing == {"p3": "unknown_epoch"}
    assert [one.member for one in late.contributors] == ["p1", "p2"]
    asker.hears("p3")
    found = asker.reads(query, record, waits=True)
    assert isinstance(found, Result)
    assert [one.member for one in found.contributors] == list(MEMBERS)


def test_a_result_that_comes_when_the_epochs_in_it_are_over_is_still_read() -> None:
    """No aggregator ran for hours: what came in time counts, however late it is relayed."""
    desk, query, asker = blind()
    settled = settled_of(desk, *(query.says(m, SURE) for m in MEMBERS))
    limits = desk.members.federation.policy.limits
    desk.time.advance(KEY_LIFE + RENEWAL + limits.max_deadline_ms + 1000)
    desk.epochs["agg"] = desk.members.epoch("agg", "alice")
    asker.hears("agg")
    result = read(asker, query, query.result(settled))
    assert result.outcome == "complete"


def test_under_trusted_relayed_responses_are_not_looked_at() -> None:
    desk, query, asker = blind()
    settled = settled_of(desk, *(query.says(m, SURE) for m in MEMBERS))
    trusted = desk.query()
    (plain,) = desk.take(trusted.record, *(trusted.says(m, OTHER) for m in MEMBERS))
    record = trusted.result(plain, responses=relayed(settled))
    result = read(asker, trusted, record)
    assert (result.labels, asker.tally.counts()) == (["dog"], {})


def test_a_result_under_a_protection_that_the_policy_does_not_have_is_refused() -> None:
    desk = Desk(protections=(Protection.BLIND,))
    query = desk.query(protection="blind")
    asker = Asker(desk)
    asker.hears(*MEMBERS)
    settled = settled_of(desk, query.record, *(query.says(m, SURE) for m in MEMBERS))
    query.ask = query.ask.model_copy(update={"protection": "trusted"})
    refusal = asker.reads(query, query.result(settled))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.PROTECTION_NOT_ALLOWED


@pytest.mark.parametrize("protection", BOTH)
@pytest.mark.parametrize(
    ("noise", "form"),
    [
        (DiscreteGaussian(4.0, 1e-5), Form.PROBABILITIES),
        (RandomisedResponse(3, 2.0), Form.LABEL),
    ],
)
def test_the_reader_of_an_answer_sees_the_noise_that_is_declared_and_no_less(
    noise: DiscreteGaussian | RandomisedResponse, form: Form, protection: Protection
) -> None:
    """Whatever is between the participant and the one who reads: rounding, sealing, relaying."""
    desk = Desk(protections=BOTH, form=form, rules=("hard",))
    reader = desk.members.gate("agg" if protection is Protection.TRUSTED else "alice")
    said = np.repeat(SURE, 1000, axis=0)
    seen = []
    for _ in range(40):  # 5 % is seven standard deviations of the variance
        query = desk.query(protection=protection, rows=len(said), rule="hard")
        released = noise.release(said)
        record = query.answers("p1", released.form, released.values, released.scale)
        event = reader.admit(record, "response")
        assert isinstance(event, Verified)
        assert event.header.reply is not None
        given, refusal = open_response(event, event.header.reply, Reading(form, 3))
        assert refusal is None
        seen.append(given.prediction)
    values = np.concatenate(seen)
    if isinstance(noise, DiscreteGaussian):
        assert (values - SURE).var() == pytest.approx(noise.sigma**2, rel=0.05)
    else:
        assert values[:, 0].mean() == pytest.approx(noise.keep, rel=0.05)
        assert values[:, 0].var() == pytest.approx(noise.keep * (1 - noise.keep), rel=0.05)
