"""Which set of answers each query's sum was released for: one, for ever, on disk (DESIGN 9).

A SQLite file that all processes of one helper share. A set is recorded before anything of it leaves
a process. Old queries are forgotten by moving a horizon, which is kept, too: of a query whose
deadline is not after it nothing is released any more, whatever any clock says.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from fi_stream.values import BrokerMillis

    _Run = Callable[..., sqlite3.Cursor]

BUSY_SECONDS: Final = 5.0
"""How long one process waits for another that writes."""

_APPLICATION: Final = 0x66695365
_VERSION: Final = 1

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS released (
        query BLOB PRIMARY KEY NOT NULL, members BLOB NOT NULL, deadline INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS by_deadline ON released (deadline)",
    """CREATE TABLE IF NOT EXISTS horizon (
        one INTEGER PRIMARY KEY CHECK (one = 1), deadline INTEGER NOT NULL
    )""",
    "INSERT OR IGNORE INTO horizon VALUES (1, 0)",
)


class Recorded(StrEnum):
    """What a store says to a set."""

    NEW = "new"
    SAME = "same"
    ANOTHER = "another"
    """Another set was recorded for this query."""

    FORGOTTEN = "forgotten"
    """The query is so old that the store does not know any more."""

    @property
    def may_leave(self) -> bool:
        """Whether the sum of this set may be released."""
        return self in (Recorded.NEW, Recorded.SAME)


@dataclass(frozen=True, slots=True)
class Entry:
    """A set about to be released: SHA-256 of the query's identity and of the set.

    `deadline` is the query's, as its participants say, in broker time.
    """

    query: bytes
    members: bytes
    deadline: BrokerMillis


class ReleaseStore:
    """The file; a context manager. Use it from one thread at a time.

    Raises:
        ConfigError: the file cannot be used, or is of something else.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with self._told():
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(
                file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def record(self, entries: Sequence[Entry]) -> list[Recorded]:
        """Record the sets that are the first of their queries, all in one transaction.

        Returns:
            What became of each, once it is on disk.

        Raises:
            ConfigError: the file cannot be written now; nothing of these may be released.
        """
        with self._told(), self._transaction() as run:
            horizon = run("SELECT deadline FROM horizon").fetchone()[0]
            return [self._record(run, one, horizon) for one in entries]

    def forget(self, before: BrokerMillis) -> int:
        """Move the horizon, never back, and forget the queries whose deadline it has passed.

        Returns:
            How many were forgotten.

        Raises:
            ConfigError: the file cannot be written now.
        """
        with self._told(), self._transaction() as run:
            run("UPDATE horizon SET deadline = max(deadline, ?)", (before,))
            return run(
                "DELETE FROM released WHERE deadline <= (SELECT deadline FROM horizon)"
            ).rowcount

    def __len__(self) -> int:
        """Queries that are remembered."""
        count: int = self._connection.execute("SELECT count(*) FROM released").fetchone()[0]
        return count

    def _record(self, run: _Run, one: Entry, horizon: int) -> Recorded:
        if one.deadline <= horizon:
            return Recorded.FORGOTTEN
        there = run("SELECT members FROM released WHERE query = ?", (one.query,)).fetchone()
        if there is not None:
            return Recorded.SAME if there[0] == one.members else Recorded.ANOTHER
        row = (one.query, one.members, one.deadline)
        run("INSERT INTO released VALUES (?, ?, ?)", row)
        return Recorded.NEW

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")  # what was recorded survives the machine, too
        with self._transaction():
            known = run("PRAGMA application_id").fetchone()[0]
            version = run("PRAGMA user_version").fetchone()[0]
            empty = not run("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if not empty and (known, version) != (_APPLICATION, _VERSION):
                raise ConfigError(
                    f"{self._file} is not a helper's store of this version: give [helper] another "
                    "file, or the one that this helper has used before."
                )
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_VERSION}")
            for statement in _TABLES:
                run(statement)

    @contextmanager
    def _transaction(self) -> Iterator[_Run]:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            yield run
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{self._file}, the helper's store, cannot be used ({error}): without it no sum is "
                "released. Mend the file or its disk; never begin with an empty one while queries "
                "are open."
            ) from error
