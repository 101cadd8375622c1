"""The embedded broker: librdkafka's in-process mock cluster, for the demo, development and tests.

It speaks the real wire protocol on loopback, needs no installation, keeps everything in memory and
drops the oldest (DESIGN 6). The C functions are librdkafka's public mock interface, called in the
library that the confluent-kafka wheel bundles.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from fi_stream.errors import BrokerError, ConfigError
from fi_stream.transport.catalogue import catalogue

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_log = structlog.get_logger()

NOTICE: Final = (
    "embedded broker: for the demo, development and tests only. "
    "Everything is kept in memory and lost when it stops."
)
_PRODUCER: Final = 0
_ALL: Final = -1
_BROKER: Final = 1
_HANDLE, _TEXT, _INT, _ID = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int32
_SIGNATURES: Final = {
    "rd_kafka_conf_new": ([], _HANDLE),
    "rd_kafka_conf_set": ([_HANDLE, _TEXT, _TEXT, _TEXT, ctypes.c_size_t], _INT),
    "rd_kafka_new": ([_INT, _HANDLE, _TEXT, ctypes.c_size_t], _HANDLE),
    "rd_kafka_destroy": ([_HANDLE], None),
    "rd_kafka_mock_cluster_new": ([_HANDLE, _INT], _HANDLE),
    "rd_kafka_mock_cluster_destroy": ([_HANDLE], None),
    "rd_kafka_mock_cluster_bootstraps": ([_HANDLE], _TEXT),
    "rd_kafka_mock_topic_create": ([_HANDLE, _TEXT, _INT, _INT], _INT),
    "rd_kafka_mock_broker_set_rtt": ([_HANDLE, _ID, _INT], _INT),
    "rd_kafka_mock_broker_set_down": ([_HANDLE, _ID], _INT),
    "rd_kafka_mock_broker_set_up": ([_HANDLE, _ID], _INT),
    "rd_kafka_mock_broker_set_host_port": ([_HANDLE, _ID, _TEXT, _INT], None),
    "rd_kafka_mock_push_request_errors_array": (
        [_HANDLE, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_INT)],
        None,
    ),
}


class EmbeddedBroker:
    """A running embedded broker with the catalogue's topics; stop it, or use it as a context.

    Args:
        partitions: of the topics that share one count; the catalogue's, when None.
        port: to listen on; any free one, when 0.
    """

    def __init__(self, partitions: int | None = None, port: int = 0) -> None:
        self._library = _load()
        self._client, self._cluster = _start(self._library)
        try:
            self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(
                self._cluster
            ).decode()
            self._opened, self._port = int(self.bootstrap.rpartition(":")[2]), port
            if port:
                self._listen_on(port)
            for topic in catalogue().topics:
                count = partitions if partitions and topic.shared else topic.partitions
                self.create_topic(topic.name, count)
        except BaseException:
            self.stop()
            raise
        _log.warning(NOTICE, bootstrap=self.bootstrap)

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic, or leave it when it is there."""
        self._command("rd_kafka_mock_topic_create", name.encode(), partitions, 1)

    def set_round_trip(self, millis: int) -> None:
        """Answer every request this much later, from now on."""
        self._command("rd_kafka_mock_broker_set_rtt", _ALL, millis)

    def go_down(self) -> None:
        """Close every connection and take no new one; records are kept."""
        self._command("rd_kafka_mock_broker_set_down", _ALL)

    def come_up(self) -> None:
        """Take connections again."""
        self._command("rd_kafka_mock_broker_set_up", _ALL)
        if self._port:
            self._listen_on(self._port)

    def fail_next(self, api_key: int, *error_codes: int) -> None:
        """Answer the next requests of one kind with these Kafka error codes, in order."""
        codes = (_INT * len(error_codes))(*error_codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, api_key, len(error_codes), codes
        )

    def stop(self) -> None:
        """Stop it and forget every record; a second call does nothing."""
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _listen_on(self, port: int) -> None:
        """Put a listener of our own in the place of the one that librdkafka opened on any port."""
        theirs = _descriptor_listening_on(self._opened)
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                ours.bind(("127.0.0.1", port))
            except OSError as error:
                raise ConfigError(
                    f"port {port} of 127.0.0.1 cannot be used: {error.strerror}. "
                    "Choose another with --port."
                ) from error
            ours.listen(128)
            ours.setblocking(False)
            os.dup2(ours.fileno(), theirs, inheritable=False)
        self._library.rd_kafka_mock_broker_set_host_port(self._cluster, _BROKER, b"127.0.0.1", port)
        # Any command wakes the broker's thread, which still waits on the listener it opened.
        self.set_round_trip(0)
        self.bootstrap = f"127.0.0.1:{port}"

    def _command(self, function: str, *arguments: object) -> None:
        """Have the broker's thread do something, and wait until it did."""
        code = getattr(self._library, function)(self._cluster, *arguments)
        # The thread answers first and then empties its wake-up pipe: a command that came in between
        # would wait for its next look, a second later.
        time.sleep(0.002)
        if code:
            raise BrokerError(f"the embedded broker failed: {function}{arguments} says {code}.")


def is_embedded(cluster_id: str | None) -> bool:
    """Whether a broker's cluster id is an embedded one's; Kafka's are 22 letters of base64."""
    return (cluster_id or "").startswith("mockCluster")


def _load() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka bundles, with the types of what we call."""
    library = ctypes.CDLL(_library_path())
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise ConfigError(
                f"the installed confluent-kafka lacks {name}: pip install 'confluent-kafka>=2.11'."
            )
        function.argtypes = arguments
        function.restype = result
    return library


def _library_path() -> str:
    package = find_spec("confluent_kafka")
    if package is None or package.origin is None:
        raise ConfigError(
            "the embedded broker needs the `broker` extra: pip install 'fi-stream[broker]'."
        )
    folder = Path(package.origin).parent
    # Wheels for Linux keep it beside the package, those for macOS inside.
    for beside in (folder.parent / "confluent_kafka.libs", folder / ".dylibs"):
        for found in sorted(beside.glob("librdkafka*")):
            return str(found)
    raise ConfigError(
        f"no librdkafka beside {folder}: the embedded broker needs a wheel of confluent-kafka that "
        "bundles it (pip install --only-binary :all: confluent-kafka)."
    )


def _start(library: ctypes.CDLL) -> tuple[int | None, int | None]:
    message = ctypes.create_string_buffer(512)
    settings = library.rd_kafka_conf_new()
    # Its log goes to stderr by itself; the adapter reports what matters.
    library.rd_kafka_conf_set(settings, b"log_level", b"0", message, len(message))
    client = library.rd_kafka_new(_PRODUCER, settings, message, len(message))
    if not client:
        raise BrokerError(f"the embedded broker did not start: {message.value.decode()}.")
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    if not cluster:
        library.rd_kafka_destroy(client)
        raise BrokerError(
            "the embedded broker did not start: librdkafka could not listen on 127.0.0.1."
        )
    return client, cluster


def _descriptor_listening_on(port: int) -> int:
    for entry in Path("/dev/fd").iterdir():
        descriptor = int(entry.name)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as candidate:
                listens = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and candidate.getsockname()[:2] == ("127.0.0.1", port):
                    return descriptor
        except OSError:
            continue  # closed meanwhile, or a socket of another kind
    raise BrokerError("the embedded broker's listener was not found: start it without --port.")
