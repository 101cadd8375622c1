"""The comparison of the levels: how many are asked under each, and what they take on the wire."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from desk import SURE, Desk

from fi_stream.demo.levels import COMPARED, groups
from fi_stream.demo.wire import mean_bytes
from fi_stream.errors import ConfigError
from fi_stream.federation.member import PrivacySection
from fi_stream.federation.policy import Policy, Protection
from fi_stream.privacy.compatibility import refuse_privacy


@pytest.mark.parametrize("first", Protection)
@pytest.mark.parametrize("epsilon", [8.0, None])
def test_the_level_that_was_asked_for_comes_first_and_has_all_queries(
    first: Protection, epsilon: float | None
) -> None:
    together = groups(first, epsilon, 300, 5)
    asked = [each for group in together for each in group.counts.items()]
    assert asked[0] == (first, 300)
    assert dict(asked) == {each: 300 if each is first else COMPARED for each in Protection}
    assert len(together) == (1 if epsilon is None else 2)
    assert sum(group.queries for group in groups(first, epsilon, 7, 5)) == 21


@pytest.mark.parametrize("epsilon", [8.0, None])
@pytest.mark.parametrize("participants", [2, 3, 5])
def test_every_federation_is_one_that_check_takes(participants: int, epsilon: float | None) -> None:
    for group in groups(Protection.SECAGG, epsilon, 10, participants):
        noise, sums = group.noise, Protection.SECAGG in group.counts
        policy = Policy(
            protections=tuple(group.counts),
            rules=(group.rule,),
            form=noise.form,
            secagg=noise.sums(participants) if sums else None,
        )
        section = tomllib.loads(noise.section(group.queries))["privacy"]
        privacy = PrivacySection.model_validate(section, context=Path())
        assert refuse_privacy(policy, privacy) is None
        if policy.secagg is not None:
            assert policy.secagg.k_min <= participants


def test_one_participant_alone_has_no_secure_sums() -> None:
    (group,) = groups(Protection.BLIND, 8.0, 10, 1)
    assert list(group.counts) == [Protection.BLIND, Protection.TRUSTED]
    with pytest.raises(ConfigError, match="set --participants to 2 or more"):
        groups(Protection.SECAGG, 8.0, 10, 1)


LEVELS = (Protection.TRUSTED, Protection.BLIND)


def test_the_bytes_of_a_query_are_those_of_all_its_events_and_of_no_other_task() -> None:
    desk = Desk(protections=LEVELS, early_exit=False)
    records, expected = [], {}
    for protection in LEVELS:
        size = 0
        for _ in range(3):
            query = desk.query(protection=protection)
            events = [query.record, *(query.says(member, SURE) for member in ("p1", "p2", "p3"))]
            (settled,) = desk.take(*events)
            events.append(query.result(settled))
            size += sum(len(event.value) for event in events)
            records += events
        expected[protection] = size / 3
    task = desk.members.federation.task.hash
    assert mean_bytes(records, task) == expected
    assert mean_bytes(records, b"another task".ljust(32)) == {}
