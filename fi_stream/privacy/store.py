"""An SQLite file that holds a privacy ledger: made whole, opened, never silently made anew."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.privacy.accountant import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 1.0
"""Seconds that we wait for another process's transaction, which takes a few milliseconds."""

_APPLICATION = 0x66694C67
_VERSION = 1
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    unit TEXT NOT NULL,
    salt BLOB NOT NULL
);
CREATE TABLE clients (
    client TEXT PRIMARY KEY NOT NULL,
    reserved INTEGER NOT NULL CHECK (typeof(reserved) = 'integer' AND reserved >= 0),
    answered INTEGER NOT NULL CHECK (typeof(answered) = 'integer' AND answered >= 0),
    granted INTEGER NOT NULL CHECK (typeof(granted) = 'integer' AND granted >= 0)
) WITHOUT ROWID;
CREATE TABLE grants (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    client TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer' AND amount > 0),
    epsilon TEXT NOT NULL,
    who TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE TABLE days (
    day TEXT NOT NULL,
    client TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (day, client)
) WITHOUT ROWID;
"""


def make(path: Path, unit: Unit) -> None:
    """Make a ledger with nothing in it, unless there is a file; complete, or not there at all.

    Raises:
        ConfigError: it cannot be made.
    """
    if path.exists():
        return
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with guarded(path):
        beside.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        try:
            with closing(connect(beside)) as connection:
                connection.executescript(f"BEGIN; {_SCHEMA}")
                connection.execute(
                    "INSERT INTO ledger VALUES (1, ?, ?)", (unit.value, secrets.token_bytes(32))
                )
                connection.execute("COMMIT")
            with suppress(FileExistsError):  # a replica was quicker
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def connect(
    path: Path, *, only_read: bool = False, patience: float = PATIENCE
) -> sqlite3.Connection:
    """Open a file that is there; each transaction is on the disk when its COMMIT returns.

    EXTRA is FULL that also syncs the directory once the rollback journal is gone: else a power
    failure could bring the journal back, and undo a charge whose answer has left.
    """
    mode = "ro" if only_read else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
    )
    if not only_read:
        connection.execute("PRAGMA synchronous = EXTRA")
    return connection


def check(connection: sqlite3.Connection, path: Path) -> Unit:
    """What a ledger counts in.

    Raises:
        ConfigError: the file is no ledger, or one of a later fi_stream.
    """
    with guarded(path):
        [[application]] = connection.execute("PRAGMA application_id")
        [[version]] = connection.execute("PRAGMA user_version")
        if application != _APPLICATION:
            raise unusable(path, "it is not a ledger, or was cut off")
        if version != _VERSION:
            raise unusable(
                path, f"a later fi_stream wrote it (version {version}); upgrade this one"
            )
        [[unit]] = connection.execute("SELECT unit FROM ledger")
        return Unit(unit)


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Say what is wrong with the file of that path, where SQLite or the system says so."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise unusable(path, "another process has locked it") from error
        raise unusable(path, str(error)) from error
    except sqlite3.Error as error:
        raise unusable(path, str(error)) from error
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error
    except ValueError as error:  # a row or a unit that we did not write
        raise unusable(path, "it is not a ledger, or was changed by hand") from error


def unusable(path: Path, why: str) -> ConfigError:
    """The error that names the file and says what to do."""
    return ConfigError(
        f"the privacy ledger {path} cannot be used: {why}. It says what clients have learnt "
        "already: correct `ledger` under [privacy], or restore the file; to go on without it "
        "would give every client its whole budget again."
    )
