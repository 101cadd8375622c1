"""The ledger: what each client of a participant used up, on disk before anything is given."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from fi_stream.clock import SystemClock
from fi_stream.errors import ConfigError
from fi_stream.privacy import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fi_stream.clock import Clock
    from fi_stream.privacy.accountant import Unit
    from fi_stream.values import BrokerMillis, MemberId

MOST = 2**63 - 1
"""The most that one amount can be, in whole units."""

_LINES = "SELECT client, reserved, answered, granted FROM clients"


class Line(NamedTuple):
    """One client, in whole units.

    `reserved` was set aside and counts as used, `answered` of it surely went into answers,
    `granted` is what the client's limit was raised by.
    """

    reserved: int = 0
    answered: int = 0
    granted: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """A client's limit was raised: when, by how much, and by whom.

    `amount` is in whole units; `epsilon` is what was asked for, as it was written.
    """

    at: BrokerMillis
    client: MemberId
    amount: int
    epsilon: str
    who: str
    note: str


@dataclass(frozen=True, slots=True)
class Day:
    """What was set aside for a client on a day of UTC, less what was given back on it."""

    day: str
    client: MemberId
    amount: int


class Ledger:
    """One participant's ledger; its replicas on one machine share it.

    Not for two threads at once, and never across a fork: `abandon` it in the child.

    Args:
        path: the file; it is made when it is missing, its directory is not.
        unit: what its owner counts in.
        clock: says when.

    Raises:
        ConfigError: the file cannot be used, or counts in another unit; so do all methods.
    """

    def __init__(self, path: Path, unit: Unit, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        store.make(path, unit)
        self._connection, self._file = _opened(path, unit)
        self._failed = self._impatient = False
        self._connected = 0

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def abandon(self) -> None:
        """In a forked child: leave the parent's connection as it is, for closing it would harm."""
        _parents.append(self._connection)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction, in which nobody else writes: on the disk at the end, or undone."""
        with self._guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def line(self, client: MemberId) -> Line:
        """One client's; empty for one that was never answered."""
        with self._guarded():
            found = self._connection.execute(f"{_LINES} WHERE client = ?", (client,)).fetchone()
        return Line(*found[1:]) if found else Line()

    def salt(self) -> bytes:
        """Random bytes that nobody else knows, made with the ledger."""
        with self._guarded():
            [[salt]] = self._connection.execute("SELECT salt FROM ledger")
        return bytes(salt)

    def lines(self) -> dict[MemberId, Line]:
        """Every client's, by name."""
        with self._guarded():
            return _lines(self._connection)

    def write(self, lines: Mapping[MemberId, Line]) -> None:
        """Replace the lines of these clients; inside `writing`."""
        day = datetime.fromtimestamp(self._clock.wall() / 1000, UTC).strftime("%Y-%m-%d")
        for client, line in lines.items():
            before = self.line(client)
            self._connection.execute(
                "INSERT INTO clients VALUES (?, ?, ?, ?) ON CONFLICT (client) DO UPDATE "
                "SET reserved = excluded.reserved, answered = excluded.answered, "
                "granted = excluded.granted",
                (client, *line),
            )
            if more := line.reserved - before.reserved:
                self._connection.execute(
                    "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT (day, client) DO UPDATE "
                    "SET amount = amount + excluded.amount",
                    (day, client, more),
                )

    def grant(self, client: MemberId, amount: int, epsilon: str, who: str, note: str = "") -> Line:
        """Raise a client's limit; on the disk on return, and in effect in every replica."""
        at = self._clock.wall()
        with self.writing():
            line = self.line(client)
            raised = line._replace(granted=line.granted + amount)
            if not 0 < amount <= raised.granted <= MOST // 2:
                raise ConfigError(
                    f"a grant of {epsilon} to {client}: give more than 0, and so that all grants "
                    "of a client stay below a thousand million epsilon."
                )
            self.write({client: raised})
            self._connection.execute(
                "INSERT INTO grants (at, client, amount, epsilon, who, note) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (at, client, amount, epsilon, who, note),
            )
        return raised

    def version(self) -> tuple[int, int]:
        """Changes whenever another process wrote; cheap."""
        with self._guarded():
            [[version]] = self._connection.execute("PRAGMA data_version")
        return self._connected, int(version)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with store.guarded(self._path):
                if _identity(self._path) != self._file:
                    why = "another file is there than when it was opened; start this process again"
                    raise store.unusable(self._path, why)
                if self._failed:
                    self._connect_again()
                yield
        except ConfigError:
            self._failed = True
            raise
        if self._impatient:
            self._connection.execute(f"PRAGMA busy_timeout = {round(store.PATIENCE * 1000)}")
            self._impatient = False

    def _connect_again(self) -> None:
        """Forget what was read of a file that may have been restored in place.

        Nobody waits for it while it fails: the answers of a pass would wait one after the other.
        """
        self._connection.close()
        self._connection = store.connect(self._path, patience=0)
        store.check(self._connection, self._path)
        self._connected += 1
        self._failed, self._impatient = False, True


@dataclass(frozen=True, slots=True)
class Content:
    """All that a ledger holds."""

    unit: Unit
    lines: Mapping[MemberId, Line]
    grants: tuple[Grant, ...]
    days: tuple[Day, ...]


def read(path: Path) -> Content:
    """All that a ledger holds, beside whoever uses it; the file stays as it is to the byte.

    Raises:
        ConfigError: there is no file, or it cannot be used.
    """
    if not path.exists():
        raise ConfigError(
            f"there is no ledger {path} yet: the participant makes it when it first starts. If it "
            "has run, correct `ledger` under [privacy], or restore the file."
        )
    with store.guarded(path):
        try:
            return _content(path, only_read=True)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        # A process died in the middle of a write: whoever comes next takes back its half.
        return _content(path, only_read=False)


def other_unit(path: Path, found: Unit, unit: Unit) -> ConfigError:
    """The error for a ledger that another mechanism wrote."""
    return ConfigError(
        f"the ledger {path} counts {found}, and this mechanism {unit}: what a client learnt under "
        "both adds up, and one file cannot add it. Keep the mechanism, or start another ledger "
        "file knowing that each has its own budget."
    )


# Closing one in a child could undo what its parent is about to write.
_parents: list[sqlite3.Connection] = []


def _opened(path: Path, unit: Unit) -> tuple[sqlite3.Connection, tuple[int, int]]:
    with store.guarded(path):
        file = _identity(path)
        connection = store.connect(path)
    try:
        found = store.check(connection, path)
    except ConfigError:
        connection.close()
        raise
    if found is not unit:
        connection.close()
        raise other_unit(path, found, unit)
    return connection, file


def _content(path: Path, *, only_read: bool) -> Content:
    with closing(store.connect(path, only_read=only_read)) as connection:
        unit = store.check(connection, path)
        connection.execute("BEGIN")
        grants = connection.execute(
            "SELECT at, client, amount, epsilon, who, note FROM grants ORDER BY number"
        )
        days = connection.execute("SELECT day, client, amount FROM days ORDER BY day, client")
        return Content(
            unit,
            _lines(connection),
            tuple(Grant(*row) for row in grants),
            tuple(Day(*row) for row in days),
        )


def _lines(connection: sqlite3.Connection) -> dict[MemberId, Line]:
    return {client: Line(*rest) for client, *rest in connection.execute(_LINES)}


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  (a third of the time of Path.stat, for each answer)
    return status.st_dev, status.st_ino
