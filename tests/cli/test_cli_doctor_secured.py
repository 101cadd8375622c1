"""An Apache Kafka that asks for TLS, a password and rights: what members find, and that it serves.

The rights are those of the table in `docs/operating.md`, and no more.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stage as staging
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from stage import rows, until

from fi_stream import connect
from fi_stream.federation.roster import Role
from fi_stream.transport import topics
from fi_stream.transport.apache import ApacheBroker, missing
from fi_stream.transport.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage import Stage

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(missing() is not None, reason=f"no Apache Kafka: {missing()}"),
]

PASSWORD = "a-secret-of-{}"  # noqa: S105 -- of a broker of this test alone
USERS = ("admin", "p1", "p2", "p3", "agg", "alice", "bob")
RIGHTS = {
    "p1": "write fi.responses fi.keys fi.dead; read fi.queries fi.keys",
    "p2": "write fi.responses fi.keys; read fi.queries fi.keys",  # not fi.dead
    "p3": "write fi.keys fi.dead; read fi.queries fi.keys",  # not fi.responses, and no group
    "agg": "write fi.results fi.keys fi.dead; read fi.queries fi.responses fi.results fi.keys",
    "alice": "write fi.queries fi.keys; read fi.results fi.keys",
}
GROUPED = {"p1": "participant", "p2": "participant", "agg": "aggregator"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, the broker's `broker.pem` under it, and `other.pem`, of nobody."""
    folder = tmp_path_factory.mktemp("authority")
    key, ca = made("authority")
    (folder / "ca.pem").write_bytes(pem(ca))
    (folder / "other.pem").write_bytes(pem(made("other")[1]))
    own, certificate = made("broker", (key, ca))
    private = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "broker.pem").write_bytes(private + pem(certificate) + pem(ca))
    return folder


@pytest.fixture(scope="module")
def broker(authority: Path) -> Iterator[ApacheBroker]:
    users = " ".join(f'user_{user}="{PASSWORD.format(user)}"' for user in USERS)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": (
            f'{login} username="admin" password="{PASSWORD.format("admin")}" {users};'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority / "ca.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # ANONYMOUS is the controller's own listener; nobody comes in by it.
        "super.users": "User:admin;User:ANONYMOUS",
    }
    with ApacheBroker(settings=settings) as running:
        asyncio.run(topics.apply(Connection.of(as_user("admin", running.bootstrap, authority))))
        yield running


@pytest.fixture
def stage(broker: ApacheBroker, authority: Path, tmp_path: Path) -> Iterator[Stage]:
    """A federation of users of that broker; each has the rights of the table."""
    with staging.everything_logged() as logs:
        # Whoever waits for p3, which does not run, has its result half a second early.
        limits = {"hop_ms": 500}
        stage = staging.build(tmp_path / "federation", broker.bootstrap, limits=limits)
        stage.logs = logs
        for member in USERS[1:]:
            settings = as_user(member, broker.bootstrap, authority)
            lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
            file = stage.file(member)
            before, after = file.read_text().split("[kafka]\n")
            file.write_text(before + "[kafka]\n" + "".join(lines) + after.split("\n", 1)[1])
            file.chmod(0o600)
        allow(as_user("admin", broker.bootstrap, authority), stage.federation.name)
        yield stage


@pytest.fixture
def examine(cli: Callable[..., Any]) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """Run `doctor --json`: its exit code, and what is not ok."""

    def run(*words: str | Path) -> tuple[int, list[dict[str, str]]]:
        code, out, _ = cli("doctor", *words, "--json")
        assert "a-secret" not in out
        return code, json.loads(out)["checks"]

    return run


def made(
    name: str, signer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key and its certificate, for 127.0.0.1; signed by itself without a signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    by = signer[0] if signer else key
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    return key, (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[1].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(by, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def as_user(user: str, bootstrap: str, authority: Path) -> dict[str, str]:
    """The `[kafka]` of a member."""
    return {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": PASSWORD.format(user),
        "ssl.ca.location": str(authority / "ca.pem"),
    }


def allow(admin: dict[str, str], federation: str) -> None:
    bindings = []
    for user, text in RIGHTS.items():
        # Everyone looks at the four topics when it starts.
        seen = "describe fi.queries fi.results fi.keys"
        if user != "p3":
            seen += " fi.responses"
        for part in (*text.split("; "), seen):
            operation, *names = part.split(" ")
            bindings += [binding(ResourceType.TOPIC, name, user, operation) for name in names]
    for user, role in GROUPED.items():
        group = f"fi.{federation}.{role}.{user}"
        bindings.append(binding(ResourceType.GROUP, group, user, "read"))
    _create(admin, bindings)


def binding(kind: ResourceType, name: str, user: str, operation: str) -> AclBinding:
    return AclBinding(
        kind,
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[operation.upper()],
        AclPermissionType.ALLOW,
    )


def change(stage: Stage, member: str, old: str, new: str) -> Path:
    file = stage.file(member)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return file


def told(checks: list[dict[str, str]], name: str) -> list[tuple[str, str]]:
    return [(one["state"], one["finding"]) for one in checks if one["check"] == name]


@pytest.mark.parametrize("member", ["p1", "agg", "alice"])
def test_the_rights_of_the_table_pass_every_check(
    stage: Stage, examine: Callable[..., Any], member: str
) -> None:
    code, checks = examine(stage.file(member), "--announce")
    assert code == 0, checks
    [(state, tls)] = told(checks, "tls")
    assert (state, "TLSv1.3" in tls, "89 more days" in tls) == ("ok", True, True)
    assert told(checks, "sasl") == [("ok", f"{stage.bootstrap} logs {member} in")]
    [(state, rights)] = told(checks, "rights")
    assert (state, rights.endswith(": all that is needed")) == ("ok", member == "alice"), rights
    assert {state for state, _ in told(checks, "announce")} == {"ok"}


def test_a_wrong_password_is_told(stage: Stage, examine: Callable[..., Any]) -> None:
    file = change(stage, "p1", PASSWORD.format("p1"), PASSWORD.format("nobody"))
    code, checks = examine(file)
    assert code == 6
    [(state, finding)] = told(checks, "sasl")
    assert (state, f"{stage.bootstrap} does not log p1 in" in finding) == ("wrong", True)
    assert "check sasl.username, sasl.password" in checks[-1]["fix"]


def test_a_mechanism_that_the_broker_does_not_know_is_told(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    code, checks = examine(change(stage, "p1", '"PLAIN"', '"SCRAM-SHA-512"'))
    assert code == 6
    [(state, finding)] = told(checks, "sasl")
    assert state == "wrong"
    assert finding.endswith("does not know sasl.mechanism SCRAM-SHA-512")


def test_an_authority_that_did_not_sign_the_brokers_certificate_is_told(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    code, checks = examine(change(stage, "p1", "ca.pem", "other.pem"))
    assert code == 6
    [(state, finding)] = told(checks, "tls")
    assert (state, "certificate" in finding) == ("wrong", True), finding
    assert not told(checks, "sasl")


def test_a_member_that_does_not_speak_tls_is_told(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    code, checks = examine(change(stage, "p1", '"SASL_SSL"', '"SASL_PLAINTEXT"'))
    assert code == 6
    assert [state for state, _ in told(checks, "sasl")] == ["wrong"]


def test_rights_that_are_missing_are_named_one_by_one(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    group = f"fi.{stage.federation.name}.participant.p3"
    code, checks = examine(stage.file("p3"))
    assert code in (5, 6)
    found = told(checks, "topics") + told(checks, "rights")
    assert any(state == "wrong" and "fi.responses" in what for state, what in found), found
    change_rights(stage, "p3", "write", "fi.responses")
    code, checks = examine(stage.file("p3"))
    assert code == 6
    assert told(checks, "rights") == [
        ("wrong", f"as participant: this member's user may not read {group}")
    ]


def test_without_the_right_to_write_dead_letters_there_is_a_warning_and_a_role_that_runs(
    stage: Stage, examine: Callable[..., Any]
) -> None:
    code, checks = examine(stage.file("p2"))
    assert code == 0
    [(state, finding)] = told(checks, "rights")
    assert (state, "may not write" in finding, "fi.dead" in finding) == ("warning", True, True)
    with staging.everything_logged() as stage.logs:  # the command has set up its own
        asyncio.run(poisoned(stage))


async def poisoned(stage: Stage) -> None:
    """Poison for a member that may not keep it, then a query: with these rights all of it works."""
    async with stage.running("agg", "p1", "p2"), connect(stage.file("alice")) as client:
        async with stage.wire("alice", Role.CLIENT) as wire:
            await wire.put("fi.queries", 0, b"bad")
        result = await client.ask(rows(1), deadline=6.0)
        assert {one.member for one in result.contributors} == {"p1", "p2"}
        await until(lambda: stage.events("dead.not_written"), within=40.0)
    [said] = stage.events("dead.not_written")
    assert "rights" in said["why"]
    [stopped] = stage.events("stopped", member="p1")
    assert stopped["refused"]["malformed"] == 1  # the other tests' federations leave theirs, too


def change_rights(stage: Stage, user: str, operation: str, topic: str) -> None:
    folder = json.loads(_setting(stage, "ssl.ca.location"))
    admin = as_user("admin", stage.bootstrap, Path(folder).parent)
    _create(admin, [binding(ResourceType.TOPIC, topic, user, operation)])


def _create(admin: dict[str, str], bindings: list[AclBinding]) -> None:
    client = AdminClient(admin)  # what it was asked is done while it lives
    for done in client.create_acls(bindings).values():
        done.result(10)


def _setting(stage: Stage, name: str) -> str:
    [line] = [x for x in stage.file("alice").read_text().splitlines() if x.startswith(name)]
    return line.partition(" = ")[2]
