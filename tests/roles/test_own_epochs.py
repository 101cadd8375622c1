"""What a process seals under, as rosters come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from members import Cast, cast, reply

from fi_stream.clock import BrokerClock
from fi_stream.errors import ConfigError
from fi_stream.federation.changes import with_keys, without_member
from fi_stream.federation.member import MemberSettings
from fi_stream.federation.policy import Protection
from fi_stream.federation.roster import Role
from fi_stream.federation.rosters import RECENT, Published
from fi_stream.roles.own_epochs import Need, OwnEpochs
from fi_stream.roles.seat import Seat
from fi_stream.sealing.epochs import KEY_LIFE
from fi_stream.sealing.identity import Identities, Identity
from fi_stream.transport.connection import Connection
from fi_stream.transport.kafka import KafkaTransport
from fi_stream.values import BrokerMillis, Millis

if TYPE_CHECKING:
    from fi_stream.federation.federation import Federation

KAFKA = {"bootstrap.servers": "nobody.example:9092"}


def own_epochs(members: Cast, member: str, role: Role) -> OwnEpochs:
    settings = MemberSettings.model_validate(
        {"member": {"id": member, "federation": "f.toml", "keys": "keys"}, "kafka": KAFKA}
    )
    seat = Seat(
        settings,
        members.federation,
        members.rosters,
        Identities(members.identities[member]),
        BrokerClock(members.time, Millis(2000)),
        KafkaTransport(Connection.of(KAFKA), members.time),
        role,
    )
    return OwnEpochs(seat)


def publish(members: Cast, federation: Federation, at: int) -> None:
    added = Published(federation, BrokerMillis(at), str(federation.roster.version).encode())
    assert members.rosters.add(added) is None


def test_the_next_version_is_ready_before_its_moment_and_asked_under_from_it_on() -> None:
    members = cast()
    own = own_epochs(members, "alice", Role.CLIENT)
    own.take(own.missing())
    moment = members.now + 5000
    publish(members, without_member(members.federation, "p3", revoked=False), moment)
    own.take(own.missing())
    assert own.current == 1
    members.time.advance(4999)
    assert own.find().epoch.roster == 1
    members.time.advance(1)
    assert own.find().epoch.roster == 2


def test_until_its_grants_are_acknowledged_a_version_is_not_asked_under() -> None:
    members = cast()
    own = own_epochs(members, "alice", Role.CLIENT)
    own.take(own.missing())
    publish(members, without_member(members.federation, "p3", revoked=False), members.now)
    made = own.missing()
    assert own.find().epoch.roster == 1
    own.take(made)
    assert own.find().epoch.roster == 2


def test_the_result_of_an_old_query_can_be_sealed_long_after_its_roster_was_replaced() -> None:
    members = cast()
    publish(members, without_member(members.federation, "p3", revoked=False), members.now)
    members.time.advance(24 * RECENT)
    own = own_epochs(members, "agg", Role.AGGREGATOR)
    own.take(own.missing())
    assert own.find(Need(1, "trusted", "alice")).epoch.roster == 1
    assert {epoch.epoch.roster for epoch in own.to_announce()} == {2}


def test_what_is_worn_out_is_replaced_unless_its_roster_was() -> None:
    members = cast()
    own = own_epochs(members, "p1", Role.PARTICIPANT)
    own.take(own.missing())
    publish(members, without_member(members.federation, "p3", revoked=False), members.now)
    own.take(own.missing())
    assert own.worn_out() == []
    members.time.advance(KEY_LIFE)
    [(purpose, fresh)] = own.worn_out()
    assert purpose.epoch.epoch.roster == fresh.epoch.roster == 2
    assert purpose.epoch.epoch.epoch != fresh.epoch.epoch


BOTH = (Protection.TRUSTED, Protection.BLIND)
FOR_ALICE = Need(1, "blind", "alice")


def participant(members: Cast) -> OwnEpochs:
    own = own_epochs(members, "p1", Role.PARTICIPANT)
    own.take(own.missing())
    return own


def test_answers_for_one_client_have_an_epoch_from_its_first_query_on() -> None:
    own = participant(cast(protections=BOTH))
    assert own.holds(Need(1, "trusted", "alice"))
    assert not own.holds(FOR_ALICE)
    made = own.wanted([FOR_ALICE, FOR_ALICE])
    assert not own.holds(FOR_ALICE), "its grant is not acknowledged"
    own.take(made)
    assert own.holds(FOR_ALICE)
    assert not own.holds(Need(1, "blind", "bob"))
    assert own.wanted([FOR_ALICE]) == {}
    epochs = {own.find(FOR_ALICE).epoch.epoch, own.find(Need(1, "trusted", "alice")).epoch.epoch}
    assert epochs == {each.epoch.epoch for each in own.to_announce()}
    assert len(epochs) == 2


@pytest.mark.parametrize("protection", ["mpc", "secagg", "", "x" * 128])
def test_a_result_can_be_sealed_whatever_protection_a_client_has_asked_for(protection: str) -> None:
    """Else a client that asks for one that there is not would end every aggregator."""
    members = cast()
    own = own_epochs(members, "agg", Role.AGGREGATOR)
    own.take(own.missing())
    need = Need(1, protection, "alice")
    assert own.find(need) is own.find(Need(1, "trusted", "alice"))


def test_what_is_made_twice_at_the_same_time_is_sealed_under_the_first() -> None:
    own = participant(cast(protections=BOTH))
    first, second = own.wanted([FOR_ALICE]), own.wanted([FOR_ALICE])
    own.take(first)
    own.take(second)
    assert own.find(FOR_ALICE) is first[1][0].epoch
    assert len(own.to_announce()) == 2


@pytest.mark.parametrize("need", [Need(1, "blind", "alice"), Need(1, "secagg", "alice")])
def test_nothing_is_made_for_what_the_policy_does_not_allow(need: Need) -> None:
    own = participant(cast())
    assert own.wanted([need]) == {}
    assert not own.holds(need)


def test_an_epoch_for_a_client_that_asks_no_more_is_not_renewed_for_ever() -> None:
    members = cast(protections=BOTH)
    own = participant(members)
    own.take(own.wanted([FOR_ALICE]))
    own.find(FOR_ALICE).seal(members.ask(), reply(), b"")
    members.time.advance(KEY_LIFE)
    for purpose, fresh in own.worn_out():
        purpose.epoch = fresh
    assert own.holds(FOR_ALICE)
    members.time.advance(KEY_LIFE)
    assert len(own.worn_out()) == 1
    assert not own.holds(FOR_ALICE)
    own.take(own.wanted([FOR_ALICE]))
    assert own.holds(FOR_ALICE)


def test_without_the_keys_that_the_roster_in_effect_lists_nothing_is_sealed() -> None:
    members = cast()
    own = own_epochs(members, "p1", Role.PARTICIPANT)
    own.take(own.missing())
    moment = members.now + 1000
    fresh = Identity.generate("p1").card()
    publish(members, with_keys(members.federation, fresh, revoked=False), moment)
    assert own.missing() == {}
    assert own.lacking is None, "there is still time"
    members.time.advance(1000)
    assert own.missing() == {}
    with pytest.raises(ConfigError, match="version 2 of the roster lists other keys of p1"):
        own.find()
