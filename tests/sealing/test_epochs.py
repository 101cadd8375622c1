"""An epoch of our own: for its exact audience, for a while, in this process only."""

from __future__ import annotations

import os
import warnings

import pytest
from members import KINDS, SENDER, cast, parts, query_payload

from fi_stream.errors import SealingError
from fi_stream.events.envelope import TAG_BYTES
from fi_stream.events.grant import decode_grant
from fi_stream.events.refusals import Refusal
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role
from fi_stream.sealing.audiences import TABLE, Audience, audiences
from fi_stream.sealing.epochs import KEY_LIFE, MOST_MESSAGES
from fi_stream.sealing.gate import Verified
from fi_stream.values import BrokerMillis


def test_each_role_seals_to_exactly_who_needs_it() -> None:
    federation = cast().federation
    participants = ("p1", "p2", "p3")
    assert audiences(federation, Role.CLIENT) == [("query", Audience(participants, ("agg",)))]
    assert audiences(federation, Role.PARTICIPANT) == [("response", Audience(("agg",)))]
    assert audiences(federation, Role.AGGREGATOR) == [
        ("result", Audience(("alice",), ("agg",))),
        ("result", Audience(("bob",), ("agg",))),
    ]


def test_under_blind_a_participant_seals_to_each_client_and_the_aggregator_only_checks() -> None:
    federation = cast(protections=(Protection.BLIND,)).federation
    assert audiences(federation, Role.PARTICIPANT) == [
        ("response", Audience(("alice",), ("agg",))),
        ("response", Audience(("bob",), ("agg",))),
    ]
    trusted = cast().federation
    for role in (Role.CLIENT, Role.AGGREGATOR):
        assert audiences(federation, role) == audiences(trusted, role)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PARTICIPANT, Role.AGGREGATOR])
@pytest.mark.parametrize("protection", [Protection.TRUSTED, Protection.BLIND])
def test_a_query_has_one_audience_for_each_purpose(role: Role, protection: Protection) -> None:
    """Else which one is sealed to would depend on the order of the table."""
    serving = [line for line in TABLE if line.sender is role and protection in line.protections]
    assert len({line.purpose for line in serving}) == len(serving) > 0


def test_one_who_reads_and_checks_is_one_reader() -> None:
    assert Audience(("a", "b"), ("b", "c")).readers() == ("a", "b", "c")


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_a_tag_for_each_reader_of_its_grant(kind: str) -> None:
    members = cast()
    epoch = members.epoch(SENDER[kind])
    decoded = decode_grant(epoch.grant)
    assert not isinstance(decoded, Refusal)
    envelope, header = parts(members.seal(kind, epoch).value)
    assert len(envelope.tags) == TAG_BYTES * len(decoded[1].readers)
    assert header.epoch == decoded[1].epoch.epoch
    assert header.sender == SENDER[kind]


def test_the_payload_is_not_in_the_event() -> None:
    members = cast()
    epoch = members.epoch("alice")
    plain = b"a payload that nobody but its readers may see"
    sealed = epoch.seal(members.ask(), None, plain)
    assert plain not in sealed.value
    assert plain[:8] not in sealed.value


def test_the_same_content_never_looks_the_same() -> None:
    members = cast()
    epoch = members.epoch("alice")
    sealed = [epoch.seal(members.ask(), None, query_payload()) for _ in range(200)]
    envelopes = [parts(one.value)[0] for one in sealed]
    for field in ("nonce", "sealed", "tags"):
        assert len({getattr(envelope, field) for envelope in envelopes}) == 200
    assert len({one.digest for one in sealed}) == 200


def test_every_epoch_has_an_id_and_keys_of_its_own() -> None:
    members = cast()
    epochs = [members.epoch("p1", spread=False) for _ in range(20)]
    assert len({epoch.epoch.epoch for epoch in epochs}) == 20
    commits = set()
    for epoch in epochs:
        decoded = decode_grant(epoch.grant)
        assert not isinstance(decoded, Refusal)
        commits |= {decoded[1].content, *(part.commit for part in decoded[1].readers)}
    assert len(commits) == 40


def test_an_epoch_is_worn_out_by_age() -> None:
    members = cast()
    epoch = members.epoch("alice", spread=False)
    made = members.now
    assert not epoch.worn_out(BrokerMillis(made + KEY_LIFE - 1))
    assert epoch.worn_out(BrokerMillis(made + KEY_LIFE))


def test_an_epoch_is_worn_out_by_the_number_of_messages() -> None:
    members = cast()
    epoch = members.epoch("alice", spread=False)
    epoch.seal(members.ask(), None, query_payload())
    assert epoch.messages == 1
    epoch.messages = MOST_MESSAGES - 1
    assert not epoch.worn_out(members.now)
    epoch.seal(members.ask(), None, query_payload())
    assert epoch.worn_out(members.now)


def test_what_is_sealed_at_the_end_of_an_epoch_can_still_be_read_at_its_deadline() -> None:
    """Renewal looks every 30 s, so that an epoch is in use for a while after it is worn out."""
    members = cast(max_deadline_ms=10)
    epoch = members.epoch("alice")
    members.time.advance(KEY_LIFE + 59_999)
    sealed = members.seal("query", epoch)
    assert epoch.worn_out(members.now)
    members.time.advance(10)
    assert isinstance(members.hear("query", sealed.value), Verified)


def test_a_child_process_cannot_seal_under_its_parents_epoch() -> None:
    """Two processes under one key could repeat a nonce, and one of them is not who was granted."""
    members = cast()
    epoch = members.epoch("alice")
    ask = members.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads at a fork
        child = os.fork()
    if child == 0:
        code = 1
        try:
            epoch.seal(ask, None, b"payload")
        except SealingError as error:
            code = 0 if "before a fork" in str(error) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    epoch.seal(ask, None, b"payload")


def test_an_epoch_for_somebody_who_is_not_in_the_roster_is_refused() -> None:
    members = cast()
    with pytest.raises(SealingError, match="'mallory' is to read query events"):
        members.made_epoch("alice", "query", Audience(("p1", "mallory")))
