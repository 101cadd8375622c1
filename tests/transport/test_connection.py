from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fi_stream.errors import ConfigError
from fi_stream.transport.connection import Connection

if TYPE_CHECKING:
    from pathlib import Path

SASL = {
    "bootstrap.servers": ["a:9092", "b:9092"],
    "security.protocol": "sasl_plaintext",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": "me",
    "sasl.password": "hunter2",
}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate, and its key under the password "secret"."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return certificate_file, key_file


def test_librdkafkas_names_become_aiokafkas_arguments() -> None:
    arguments = Connection.of({**SASL, "client.id": "x"}).client_arguments()
    assert arguments["bootstrap_servers"] == "a:9092,b:9092"
    assert arguments["security_protocol"] == "SASL_PLAINTEXT"
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert arguments["sasl_plain_username"] == "me"
    assert arguments["sasl_plain_password"] == SASL["sasl.password"]
    assert arguments["client_id"] == "x"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bootstrap.server": "a"}, r"no setting 'bootstrap.server': did you mean 'bootstrap.serv"),
        ({"sasl.passwort": "hunter2"}, "did you mean 'sasl.password'"),
        ({"compression.type": "zstd"}, "no setting 'compression.type'"),
        ({}, "says no bootstrap.servers"),
        ({**SASL, "sasl.mechanism": "GSSAPI"}, "sasl.mechanism is 'GSSAPI': say one of PLAIN"),
        ({"bootstrap.servers": "a", "security.protocol": "TLS"}, "say one of PLAINTEXT, SSL"),
        ({"bootstrap.servers": "a", "security.protocol": "SASL_SSL"}, "needs sasl.username"),
        ({"bootstrap.servers": "a", "sasl.password": "hunter2"}, "but security.protocol is PLAIN"),
        ({"bootstrap.servers": "a", "ssl.key.location": "k"}, "needs ssl.certificate.location too"),
        ({"bootstrap.servers": "a", "delivery.timeout.ms": "1s"}, "whole number above 0, not '1s'"),
        ({"bootstrap.servers": "a", "message.max.bytes": True}, "whole number above 0, not True"),
        ({"bootstrap.servers": 9092}, "must be a string, not 9092"),
        (
            {"bootstrap.servers": "a", "ssl.endpoint.identification.algorithm": "no"},
            "say https .* or none",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_key_and_the_fix(
    wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Connection.of(wrong, "member.toml [kafka]")
    assert "member.toml [kafka]" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from([*SASL, "ssl.key.password", "socket.timeout.ms", "client.id", "x.y"]),
        st.one_of(st.just("hunter2"), st.just(["hunter2"]), st.just({"hunter2": 1}), st.just(5)),
    )
)
def test_a_password_is_never_shown(settings: dict[str, object]) -> None:
    secret = {key: settings[key] for key in settings if key.endswith("password")}
    others = {key: "x" if key not in secret else settings[key] for key in settings}
    try:
        shown = repr(Connection.of(others))
    except ConfigError as error:
        shown = str(error)
    assert "hunter2" not in shown


def test_a_certificate_and_its_key_are_loaded_and_names_are_checked(
    certificate: tuple[Path, Path],
) -> None:
    file, key = certificate
    settings = {
        "bootstrap.servers": "a",
        "security.protocol": "SSL",
        "ssl.ca.location": str(file),
        "ssl.certificate.location": str(file),
        "ssl.key.location": str(key),
        "ssl.key.password": "secret",
    }
    context = Connection.of(settings).client_arguments()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [one["serialNumber"] for one in context.get_ca_certs()] == ["01"]

    unnamed = {**settings, "ssl.endpoint.identification.algorithm": "none"}
    context = Connection.of(unnamed).client_arguments()["ssl_context"]
    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ssl.ca.location": "/no/such.pem"}, "ssl.ca.location '/no/such.pem' cannot be read: No"),
        ({"ssl.ca.location": "{key}"}, "holds no certificate in PEM form"),
        ({"ssl.key.password": "hunter2"}, "cannot be used .* open with ssl.key.password"),
        ({"ssl.key.password": ""}, "open with ssl.key.password"),
        ({"ssl.key.location": "{certificate}"}, "both must be PEM"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    certificate: tuple[Path, Path], change: dict[str, str], said: str
) -> None:
    file, key = certificate
    settings = {
        "bootstrap.servers": "a",
        "security.protocol": "SSL",
        "ssl.certificate.location": str(file),
        "ssl.key.location": str(key),
        "ssl.key.password": "secret",
    }
    for name, value in change.items():
        settings[name] = value.format(key=key, certificate=file)
    with pytest.raises(ConfigError, match=said) as caught:
        Connection.of(settings).client_arguments()
    assert "hunter2" not in str(caught.value)
