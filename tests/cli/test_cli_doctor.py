"""`fi-stream doctor`: what is wrong with a set-up, found where it is, with the way to mend it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging

from fi_stream.federation.policy import SecaggPolicy
from fi_stream.federation.roster import Role
from fi_stream.roles import doctor
from fi_stream.transport.catalogue import catalogue
from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.rights import DESCRIBE, READ, WRITE
from fi_stream.transport.topic_admin import topic_admin
from fi_stream.transport.topics import apply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from stage import Stage

CHECKS = "files permissions dns connect tls sasl listeners topics message size rights clock grants"


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def stage(broker: EmbeddedBroker, tmp_path: Path) -> Stage:
    return staging.build(tmp_path / "federation", broker.bootstrap)


@pytest.fixture
def examine(cli: Callable[..., Any]) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """Run `doctor --json`: its exit code and its checks."""

    def run(*words: str | Path) -> tuple[int, list[dict[str, str]]]:
        code, out, _ = cli("doctor", *words, "--json")
        told = json.loads(out)
        assert told["ok"] == (code == 0)
        for one in told["checks"]:
            assert (one["state"] == "ok") == (one["fix"] is None), one
        return code, told["checks"]

    return run


def not_ok(checks: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(c["check"], c["state"], c["finding"]) for c in checks if c["state"] != "ok"]


def of(checks: list[dict[str, str]], name: str) -> list[str]:
    return [one["finding"] for one in checks if one["check"] == name]


@pytest.mark.parametrize("member", ["p1", "agg", "alice"])
def test_a_sound_set_up_passes_every_check(
    stage: Stage, examine: Callable[..., Any], member: str
) -> None:
    code, checks = examine(stage.file(member))
    assert code == 0
    assert {one["check"] for one in checks} == set(CHECKS.replace("message size", "").split()) | {
        "message size"
    }
    assert {one[0] for one in not_ok(checks)} <= {"grants", "clock"}  # nobody runs


def test_who_runs_is_seen_by_its_grants(stage: Stage, examine: Callable[..., Any]) -> None:
    async def look() -> Any:
        async with running(stage):
            return await asyncio.to_thread(examine, stage.file("agg"))

    code, checks = asyncio.run(look())
    assert code == 0
    assert "participant with a grant for us: p1, p2" in of(checks, "grants")
    assert any("participant without one" in one and "p3" in one for one in of(checks, "grants"))
    assert any(one.startswith("not behind the broker's") for one in of(checks, "clock"))


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[None]:
    with staging.everything_logged() as logs:
        stage.logs = logs
        async with stage.running("p1", "p2"):
            yield


def test_announcing_leaves_a_grant_that_others_see(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    code, checks = examine(stage.file("alice"), "--announce")
    assert code == 0
    assert of(checks, "announce") == ["as client: the broker took our grants"]
    _, checks = examine(stage.file("p1"))
    assert "client with a grant for us: alice" in of(checks, "grants")


def test_looking_alone_leaves_nothing(stage: Stage, examine: Callable[..., Any]) -> None:
    examine(stage.file("bob"))
    _, checks = examine(stage.file("p1"))
    assert any("client without one" in one and "bob" in one for one in of(checks, "grants"))


def test_mistakes_in_the_files_come_first_and_end_it(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    (stage.directory / "p1" / "keys" / "signing.key").chmod(0o644)
    code, checks = examine(stage.file("p1"))
    assert code == 3
    [(check, state, finding)] = not_ok(checks)
    assert (check, state) == ("files", "wrong")
    assert "chmod 600" in finding


def test_a_federation_file_is_no_member(stage: Stage, examine: Callable[..., Any]) -> None:
    code, checks = examine(stage.directory / "federation.toml")
    assert code == 3
    assert not_ok(checks)[0][2].endswith("is a federation")


def test_a_file_that_others_may_change_is_told(stage: Stage, examine: Callable[..., Any]) -> None:
    stage.file("p1").chmod(0o666)
    code, checks = examine(stage.file("p1"))
    assert code == 3
    assert "everybody may write" in of(checks, "permissions")[0]


def test_a_ledger_that_is_none_or_that_others_may_read_is_told(
    broker: EmbeddedBroker, tmp_path: Path, examine: Callable[..., Any]
) -> None:
    policy = {"form": "label", "rules": ("hard",)}
    privacy = staging.noise(2.0, 100.0)
    stage = staging.build(tmp_path / "f", broker.bootstrap, privacy=privacy, policy=policy)
    ledger = stage.file("p1").with_name("budget.ledger")
    ledger.write_bytes(b"none")
    ledger.chmod(0o644)
    code, checks = examine(stage.file("p1"))
    assert code == 3
    said = of(checks, "permissions")
    assert any("others may read" in each and "budget.ledger" in each for each in said)
    assert any("cannot be used" in each for each in said)
    assert ledger.read_bytes() == b"none"


def test_a_password_that_others_may_read_is_a_warning(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    file = change(
        stage,
        "p1",
        "security.protocol = 'SASL_PLAINTEXT'\nsasl.username = 'p1'\nsasl.password = 'hunter2'",
    )
    file.chmod(0o640)
    _, checks = examine(file)
    [(check, state, finding), *_] = not_ok(checks)
    assert (check, state) == ("permissions", "warning")
    assert "holds a password (mode 0640)" in finding
    assert "hunter2" not in json.dumps(checks)


def test_a_name_that_does_not_resolve_is_told(
    stage: Stage, examine: Callable[..., Any], broker: EmbeddedBroker
) -> None:
    file = readdress(stage, "alice", broker.bootstrap, "no.such.host.invalid:9092")
    code, checks = examine(file)
    assert code == 6
    [(check, _, finding)] = not_ok(checks)
    assert check == "dns"
    assert finding.startswith("no.such.host.invalid cannot be resolved")


def test_one_address_of_two_that_answers_is_enough(
    stage: Stage, examine: Callable[..., Any], broker: EmbeddedBroker
) -> None:
    file = readdress(stage, "alice", broker.bootstrap, f"127.0.0.1:9,{broker.bootstrap}")
    code, checks = examine(file)
    assert code == 0
    assert ("connect", "warning") in [one[:2] for one in not_ok(checks)]


def test_a_port_where_nobody_listens_is_told(
    stage: Stage, examine: Callable[..., Any], broker: EmbeddedBroker
) -> None:
    code, checks = examine(readdress(stage, "alice", broker.bootstrap, "127.0.0.1:9"))
    assert code == 6
    assert not_ok(checks)[0][0] == "connect"


def test_an_event_that_would_not_pass_is_told(stage: Stage, examine: Callable[..., Any]) -> None:
    code, checks = examine(change(stage, "alice", "message.max.bytes = 5000"))
    assert code == 5
    [(check, _, finding)] = not_ok(checks)
    assert check == "message size"
    assert "message.max.bytes under [kafka] is 5000" in finding


def test_people_read_the_check_the_finding_and_the_fix(
    stage: Stage, cli: Callable[..., Any], broker: EmbeddedBroker
) -> None:
    code, out, err = cli("doctor", readdress(stage, "alice", broker.bootstrap, "127.0.0.1:9"))
    assert (code, err) == (6, "")
    [line] = [line for line in out.splitlines() if line.startswith("wrong")]
    assert line.split()[:2] == ["wrong", "connect"]
    assert out.splitlines()[-1].strip().startswith("fix: is the broker running there")


def test_a_helper_is_looked_at_like_any_other_role(
    broker: EmbeddedBroker, tmp_path: Path, examine: Callable[..., Any]
) -> None:
    sums = {"protections": ("secagg",), "secagg": SecaggPolicy(k_min=2)}
    stage = staging.build(tmp_path / "federation", broker.bootstrap, policy=sums)
    code, checks = examine(stage.file("helper"), "--announce")
    assert code == 0, checks
    assert of(checks, "announce") == ["as helper: the broker took our grants"]
    # Beside what other tests have left on the broker that they share.
    assert {word.split(" ")[0] for word in of(checks, "grants")} >= {"participant", "aggregator"}


@pytest.mark.parametrize("member", ["helper", "agg"])
def test_proposals_are_looked_for_where_there_are_secure_sums(
    stage: Stage, tmp_path: Path, broker: EmbeddedBroker, member: str
) -> None:
    sums = {"protections": ("secagg",), "secagg": SecaggPolicy(k_min=2)}
    made = staging.build(tmp_path / "sums", broker.bootstrap, policy=sums)
    entry = made.federation.member(member)
    assert entry is not None
    [role] = entry.roles
    both = READ | WRITE | DESCRIBE
    assert doctor._needed(role, made.federation)["fi.proposals"] == both
    if role is Role.AGGREGATOR:
        assert "fi.proposals" not in doctor._needed(role, stage.federation)


@pytest.mark.kafka
def test_apache_kafka_tells_rights_and_time(
    apache_broker: str, tmp_path: Path, examine: Callable[..., Any]
) -> None:
    asyncio.run(apply(Connection.to(apache_broker)))
    stage = staging.build(tmp_path / "federation", apache_broker)
    code, checks = examine(stage.file("agg"), "--announce")
    assert code == 0
    assert of(checks, "rights")[0].startswith("as aggregator: ")
    [clock] = of(checks, "clock")
    assert "ms ahead of this one" in clock or "ms behind this one" in clock
    asyncio.run(shrink(apache_broker, "fi.results"))
    code, checks = examine(stage.file("agg"))
    assert code == 5
    assert ("message size", "wrong") in [one[:2] for one in not_ok(checks)]
    asyncio.run(apply(Connection.to(apache_broker)))


async def shrink(bootstrap: str, topic: str) -> None:
    async with topic_admin(Connection.to(bootstrap)) as admin:
        await admin.set(topic, {**catalogue().results.settings, "max.message.bytes": "1000"})


def change(stage: Stage, member: str, kafka: str) -> Path:
    """More lines in a member's `[kafka]`."""
    file = stage.file(member)
    file.write_text(file.read_text().replace("[kafka]\n", f"[kafka]\n{kafka}\n"))
    return file


def readdress(stage: Stage, member: str, old: str, new: str) -> Path:
    file = stage.file(member)
    file.write_text(file.read_text().replace(old, new))
    return file
