"""The way to a broker, and what can be in it: TLS, listeners, a server of another kind."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fi_stream.transport.connection import Connection
from fi_stream.transport.embedded import EmbeddedBroker
from fi_stream.transport.network import examine_network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fi_stream.transport.finding import Finding


def certificate(folder: Path, address: str, days: int) -> tuple[Path, Path]:
    """A self-signed certificate for an address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


@asynccontextmanager
async def tls_server(files: tuple[Path, Path]) -> AsyncIterator[int]:
    """Something that speaks TLS, and is no broker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def look(port: int, **settings: str) -> list[Finding]:
    return await examine_network(
        Connection.of({"bootstrap.servers": f"127.0.0.1:{port}", **settings})
    )


def of(findings: list[Finding], check: str) -> Finding:
    [one] = [one for one in findings if one.check == check]
    return one


def secured(files: tuple[Path, Path], **more: str) -> dict[str, Any]:
    return {"security.protocol": "SSL", "ssl.ca.location": str(files[0]), **more}


async def test_a_certificate_of_nobody_we_know_is_told(tmp_path: Path) -> None:
    async with tls_server(certificate(tmp_path, "127.0.0.1", 90)) as port:
        found = of(await look(port, **{"security.protocol": "SSL"}), "tls")
    assert found.state == "wrong"
    assert "self-signed" in found.what
    assert "ssl.ca.location" in found.fix


async def test_a_certificate_for_another_name_is_told(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.2", 90)
    async with tls_server(files) as port:
        found = of(await look(port, **secured(files)), "tls")
    assert found.state == "wrong"
    assert "certificate is not valid for '127.0.0.1'" in found.what


@pytest.mark.parametrize(("days", "state"), [(90, "ok"), (5, "warning")])
async def test_a_certificate_that_ends_soon_is_a_warning(
    tmp_path: Path, days: int, state: str
) -> None:
    files = certificate(tmp_path, "127.0.0.1", days)
    async with tls_server(files) as port:
        findings = await look(port, **secured(files))
    assert of(findings, "tls").state == state
    assert f"good for {days} more days" in of(findings, "tls").what
    assert of(findings, "sasl").state == "wrong"  # it speaks TLS, and is no broker


async def test_a_port_without_tls_is_told(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.1", 90)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        found = of(await look(server.sockets[0].getsockname()[1], **secured(files)), "tls")
    assert found.state == "wrong"
    assert "does not complete a TLS handshake" in found.what


async def test_an_authority_that_cannot_be_read_is_told_before_anything(tmp_path: Path) -> None:
    nowhere = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "none.pem")}
    [found] = await look(9, **nowhere)
    assert (found.check, found.state) == ("tls", "wrong")
    assert "ssl.ca.location" in found.what


async def test_a_server_that_is_no_broker_is_told() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        findings = await look(server.sockets[0].getsockname()[1])
    assert of(findings, "connect").state == "ok"
    assert of(findings, "sasl").state == "wrong"
    assert "does not answer as a broker to PLAINTEXT" in of(findings, "sasl").what


async def test_a_broker_that_sends_its_clients_astray_is_told() -> None:
    with EmbeddedBroker() as broker:
        port = int(broker.bootstrap.rpartition(":")[2])
        assert of(await look(port), "listeners").state == "ok"
        broker._command("rd_kafka_mock_broker_set_host_port", 1, b"nowhere.invalid", 9092)
        found = of(await look(port), "listeners")
    assert found.state == "wrong"
    assert found.what.startswith("broker 1 sends its clients to nowhere.invalid:9092, but nowhere")
    assert "advertised.listeners" in found.fix
