"""How to reach a broker: settings under librdkafka's names, checked, as aiokafka's arguments."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SECRET: Final = frozenset({"sasl.password", "ssl.key.password"})
_ALIASES: Final = {
    "metadata.broker.list": "bootstrap.servers",
    "sasl.mechanisms": "sasl.mechanism",
    "message.timeout.ms": "delivery.timeout.ms",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
}
_WORDS: Final = frozenset(
    {
        "bootstrap.servers",
        "client.id",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
    }
)
_NUMBERS: Final[Mapping[str, int | None]] = {
    # Milliseconds until a send is given up as unknown: longer than a broker that is away for 20 s.
    "delivery.timeout.ms": 30_000,
    # One batch with its overhead; Kafka's own default limit, max.message.bytes, is 1,048,588.
    "message.max.bytes": 1_000_000,
    "socket.timeout.ms": 40_000,
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
    "max.poll.interval.ms": 300_000,
    "fetch.wait.max.ms": None,
    "fetch.min.bytes": 1,
    "fetch.max.bytes": 52_428_800,
    "max.partition.fetch.bytes": 2_097_152,
    "metadata.max.age.ms": 300_000,
    "retry.backoff.ms": 100,
    "connections.max.idle.ms": 540_000,
}
_KNOWN: Final = (*sorted(_WORDS), *_NUMBERS)


@dataclass(frozen=True)
class Connection:
    """One member's settings for its broker; passwords never show in its repr."""

    bootstrap: str
    words: Mapping[str, str] = field(repr=False)
    numbers: Mapping[str, int | None] = field(repr=False)

    @classmethod
    def of(cls, settings: Mapping[str, object], where: str = "[kafka]") -> Connection:
        """Check settings named as librdkafka names them; `where` says whose they are.

        Raises:
            ConfigError: an unknown key (with the nearest known one), or a value that cannot be.
        """
        words: dict[str, str] = {}
        numbers: dict[str, int | None] = dict(_NUMBERS)
        for key, value in settings.items():
            name = _ALIASES.get(key, key)
            if name in _WORDS:
                words[name] = _word(key, value, where)
            elif name in numbers:
                numbers[name] = _number(key, value, where)
            else:
                raise ConfigError(f"{where} has no setting {key!r}{_hint(key)}.")
        bootstrap = words.get("bootstrap.servers", "")
        if not bootstrap:
            raise ConfigError(
                f"{where} says no bootstrap.servers: add the broker's address, such as "
                'bootstrap.servers = "localhost:9092".'
            )
        connection = cls(bootstrap, words, numbers)
        connection._check(where)
        return connection

    @classmethod
    def to(cls, bootstrap: str) -> Connection:
        """A plain connection to this address."""
        return cls.of({"bootstrap.servers": bootstrap}, "--bootstrap")

    def number(self, name: str) -> int:
        """A numeric setting that has a default."""
        value = self.numbers[name]
        assert value is not None, name  # noqa: S101 -- only fetch.wait.max.ms is without a default
        return value

    def client_arguments(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes.

        Raises:
            ConfigError: a certificate or key file cannot be read or used.
        """
        protocol = self._protocol()
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.words.get("client.id", "fi-stream"),
            "security_protocol": protocol,
            "retry_backoff_ms": self.number("retry.backoff.ms"),
            "metadata_max_age_ms": self.number("metadata.max.age.ms"),
            "connections_max_idle_ms": self.number("connections.max.idle.ms"),
        }
        if protocol in ("SSL", "SASL_SSL"):
            arguments["ssl_context"] = self._ssl_context()
        if protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.words.get("sasl.mechanism", "PLAIN").upper()
            arguments["sasl_plain_username"] = self.words["sasl.username"]
            arguments["sasl_plain_password"] = self.words["sasl.password"]
        return arguments

    def _protocol(self) -> str:
        return self.words.get("security.protocol", "PLAINTEXT").upper()

    def _check(self, where: str) -> None:
        protocol = self._protocol()
        if protocol not in _PROTOCOLS:
            raise ConfigError(
                f"{where} security.protocol is {protocol!r}: say one of {', '.join(_PROTOCOLS)}."
            )
        if protocol.startswith("SASL"):
            mechanism = self.words.get("sasl.mechanism", "PLAIN").upper()
            if mechanism not in _MECHANISMS:
                raise ConfigError(
                    f"{where} sasl.mechanism is {mechanism!r}: say one of {', '.join(_MECHANISMS)}."
                )
            for key in ("sasl.username", "sasl.password"):
                if key not in self.words:
                    raise ConfigError(f"{where} security.protocol {protocol} needs {key}.")
        elif "sasl.password" in self.words:
            # A password that is silently not used is a mistake that nobody sees.
            raise ConfigError(
                f"{where} has sasl.password, but security.protocol is {protocol}: "
                "say SASL_SSL (or SASL_PLAINTEXT), or remove the password."
            )
        if "ssl.key.location" in self.words and "ssl.certificate.location" not in self.words:
            raise ConfigError(f"{where} ssl.key.location needs ssl.certificate.location too.")
        algorithm = self.words.get("ssl.endpoint.identification.algorithm", "https").lower()
        if algorithm not in ("https", "none"):
            raise ConfigError(
                f"{where} ssl.endpoint.identification.algorithm is {algorithm!r}: "
                "say https (check the broker's name) or none."
            )

    def _ssl_context(self) -> ssl.SSLContext:
        authority = self._file("ssl.ca.location")
        try:
            context = ssl.create_default_context(
                cafile=authority if authority and Path(authority).is_file() else None,
                capath=authority if authority and Path(authority).is_dir() else None,
            )
        except ssl.SSLError as error:
            raise ConfigError(
                f"ssl.ca.location {authority!r} holds no certificate in PEM form ({error.reason})."
            ) from error
        algorithm = self.words.get("ssl.endpoint.identification.algorithm", "https").lower()
        context.check_hostname = algorithm == "https"
        certificate = self._file("ssl.certificate.location")
        key = self._file("ssl.key.location")
        if certificate is not None:
            password = self.words.get("ssl.key.password", "")
            try:
                # Always give a password: without one OpenSSL would ask on the terminal.
                context.load_cert_chain(certificate, key, password)
            except ssl.SSLError as error:
                raise ConfigError(
                    f"the pair ssl.certificate.location {certificate!r} and ssl.key.location "
                    f"{key!r} cannot be used ({error.reason or 'unreadable'}): both must be PEM, "
                    "belong together, and open with ssl.key.password."
                ) from error
        return context

    def _file(self, key: str) -> str | None:
        path = self.words.get(key)
        if path is None:
            return None
        try:
            if not Path(path).is_dir():
                Path(path).open("rb").close()
        except OSError as error:
            raise ConfigError(f"{key} {path!r} cannot be read: {error.strerror}.") from error
        return path


def _word(key: str, value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    raise ConfigError(f"{where} {key} must be a string{_shown(key, value)}.")


def _number(key: str, value: object, where: str) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ConfigError(f"{where} {key} must be a whole number above 0{_shown(key, value)}.")
    return int(text)


def _shown(key: str, value: object) -> str:
    return "" if key in _SECRET else f", not {value!r}"


def _hint(key: str) -> str:
    near = get_close_matches(key, [*_KNOWN, *_ALIASES], n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(_KNOWN)}"
