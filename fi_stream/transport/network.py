"""The way to a broker, step by step: name, port, TLS, login, and where it sends its clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import KafkaError, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from fi_stream.clock import SystemClock
from fi_stream.errors import ConfigError
from fi_stream.transport.finding import Finding, State, ok, warning, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fi_stream.transport.connection import Connection

_WITHIN: Final = 5.0
_CLOSED_WITHIN: Final = 1.0
_EXPIRES_SOON: Final = 14 * 86_400
_DAY: Final = 86_400
_SETTINGS: Final = (
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "client_id",
)


async def examine_network(connection: Connection) -> list[Finding]:
    """Go to each of bootstrap.servers, and from there to every broker of the cluster."""
    try:
        arguments = connection.client_arguments()
    except ConfigError as error:
        return [wrong("tls", str(error), "correct the ssl settings in [kafka]")]
    findings: list[Finding] = []
    brokers: dict[tuple[str, int], int] = {}
    for host, port, _ in collect_hosts(connection.bootstrap, randomize=False):
        found, told = await _server(host, port, arguments)
        findings += found
        brokers |= told
    if brokers:
        # One address that answers is enough to start; the others are for when it does not.
        findings = [
            replace(one, state=State.WARNING) if one.state is State.WRONG else one
            for one in findings
        ]
    for (host, port), number in brokers.items():
        findings.append(await _listener(host, port, number))
    return findings


async def _server(
    host: str, port: int, arguments: Mapping[str, Any]
) -> tuple[list[Finding], dict[tuple[str, int], int]]:
    """What is found on the way to one address, and the brokers that it tells of."""
    where = f"{host}:{port}"
    reached = await _reach(host, port)
    if isinstance(reached, Finding):
        return [reached], {}
    findings = [ok("dns", f"{host} is {reached}"), ok("connect", f"{where} takes connections")]
    context = arguments.get("ssl_context")
    if context is None:
        findings += _in_clear(where, reached, arguments["security_protocol"])
    else:
        found = await _tls(host, port, context)
        findings.append(found)
        if found.state is State.WRONG:
            return findings, {}
    found, brokers = await _login(host, port, arguments)
    return [*findings, found], brokers


async def _reach(host: str, port: int) -> str | Finding:
    """The address of a host that takes connections, or what is in the way."""
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_WITHIN):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        fix = "correct bootstrap.servers in [kafka], or this machine's DNS or /etc/hosts"
        return wrong("dns", f"{host} cannot be resolved ({_reason(error)})", fix)
    try:
        async with asyncio.timeout(_WITHIN):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        fix = "is the broker running there, and does a firewall let this machine through?"
        return wrong("connect", f"{where} takes no connection ({_reason(error)})", fix)
    await _hang_up(writer)
    return str(found[0][4][0])


def _in_clear(where: str, address: str, protocol: str) -> Iterator[Finding]:
    if address.startswith("127.") or address == "::1":
        yield ok("tls", f"not used; {where} is this machine")
        return
    secret = " and the password" if protocol.startswith("SASL") else ""
    yield warning(
        "tls",
        f"not used: the network sees who asks and answers{secret}; contents are sealed anyway",
        f'security.protocol = "{"SASL_SSL" if secret else "SSL"}" if the broker offers it',
    )


async def _tls(host: str, port: int, context: ssl.SSLContext) -> Finding:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_WITHIN):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        fix = (
            "set ssl.ca.location to the authority that signed the broker's certificate, and "
            "bootstrap.servers to a name that is in it"
        )
        return wrong("tls", f"{where}: {error.verify_message}", fix)
    except (ssl.SSLError, OSError, TimeoutError) as error:
        fix = "is this the broker's TLS port, and does it want ssl.certificate.location?"
        return wrong("tls", f"{where} does not complete a TLS handshake ({_reason(error)})", fix)
    secured = writer.get_extra_info("ssl_object")
    certificate = secured.getpeercert() or {}
    version = secured.version()
    await _hang_up(writer)
    if "notAfter" not in certificate:
        return ok("tls", f"{where} speaks {version}")
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - SystemClock().wall() / 1000
    told = f"{where} speaks {version}, its certificate is good for {left // _DAY:.0f} more days"
    if left < _EXPIRES_SOON:
        return warning("tls", told, "whoever runs the broker must renew its certificate")
    return ok("tls", told)


async def _login(
    host: str, port: int, arguments: Mapping[str, Any]
) -> tuple[Finding, dict[tuple[str, int], int]]:
    where, protocol = f"{host}:{port}", arguments["security_protocol"]
    chosen = {key: arguments[key] for key in _SETTINGS if key in arguments}
    user = arguments.get("sasl_plain_username")
    connection = AIOKafkaConnection(host, port, request_timeout_ms=5_000, **chosen)
    logged_in = False
    try:
        async with asyncio.timeout(_WITHIN):
            await connection.connect()
            logged_in = True
            metadata = await connection.send(MetadataRequest([]))
    except UnsupportedSaslMechanismError:
        what = f"{where} does not know sasl.mechanism {arguments['sasl_mechanism']}"
        return wrong("sasl", what, "ask whoever runs the broker which it knows"), {}
    except (KafkaError, OSError, EOFError, TimeoutError, asyncio.CancelledError) as error:
        this = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and this is not None and this.cancelling():
            raise
        if not logged_in and user is not None:
            fix = (
                "check sasl.username, sasl.password and sasl.mechanism with whoever runs the broker"
            )
            return wrong("sasl", f"{where} does not log {user} in ({_reason(error)})", fix), {}
        fix = "is it a Kafka broker? if so, its listener is for another security.protocol"
        what = f"{where} does not answer as a broker to {protocol} ({_reason(error)})"
        return wrong("sasl", what, fix), {}
    finally:
        await asyncio.wait([connection.close()], timeout=_CLOSED_WITHIN)
    brokers = {(each[1], each[2]): each[0] for each in metadata.brokers}
    told = f"{where} logs {user} in" if user else f"{where} answers; no login is used"
    return ok("sasl", told), brokers


async def _listener(host: str, port: int, number: int) -> Finding:
    reached = await _reach(host, port)
    if isinstance(reached, Finding):
        return wrong(
            "listeners",
            f"broker {number} sends its clients to {host}:{port}, but {reached.what}",
            "advertised.listeners of that broker must be an address that this machine reaches",
        )
    return ok("listeners", f"broker {number} is reached at {host}:{port} ({reached})")


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close, and wait for it: the loop may end right after, and leave the socket open."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CLOSED_WITHIN):
            await writer.wait_closed()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
