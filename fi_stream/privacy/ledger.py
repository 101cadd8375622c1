"""The file that remembers what each client used up: replaced whole, fsynced, under a lock."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from fi_stream.errors import ConfigError
from fi_stream.privacy.accountant import Unit
from fi_stream.values import Counter, MemberId, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Line(Value):
    """One client: what was set aside for it, and how much of that surely went into answers."""

    reserved: Counter = 0
    answered: Counter = 0


class Ledger(Value):
    """What the file holds, in whole units."""

    v: Literal[1] = 1
    unit: Annotated[Unit, Field(strict=False)]
    clients: dict[MemberId, Line] = Field(default_factory=dict)


class LedgerFile:
    """One participant's ledger on disk; its replicas on one machine share it.

    Args:
        path: the file; it is made when it is missing, its directory is not.
        unit: what its owner counts in.

    Raises:
        ConfigError: the file cannot be used, or counts in another unit; so do all methods.
    """

    def __init__(self, path: Path, unit: Unit) -> None:
        self.path = path
        self._unit = unit
        with self._lock():
            if not path.exists():
                self.write(Ledger(unit=unit))
        self.read()

    @contextmanager
    def locked(self) -> Iterator[Ledger]:
        """The ledger as it is, which nobody else changes meanwhile."""
        with self._lock():
            yield self.read()

    def read(self) -> Ledger:
        """The ledger as it is; changes nothing, and needs no lock."""
        with self._guarded():
            content = self.path.read_bytes()
        try:
            ledger = Ledger.model_validate_json(content)
        except ValidationError as error:
            raise self._unusable("it is not a ledger, or was cut off") from error
        if ledger.unit is not self._unit:
            raise ConfigError(
                f"the ledger {self.path} counts {ledger.unit}, and this mechanism {self._unit}: "
                "what a client learnt under both adds up, and one file cannot add it. Keep the "
                "mechanism, or start another ledger file knowing that each has its own budget."
            )
        return ledger

    def write(self, ledger: Ledger) -> None:
        """Replace the file; on return it is on the disk. Only inside `locked`."""
        beside = self.path.with_name(f"{self.path.name}.new")
        with self._guarded():
            with os.fdopen(_open(beside, os.O_WRONLY | os.O_TRUNC), "wb") as file:
                file.write(ledger.model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def version(self) -> tuple[int, int]:
        """Changes whenever the file is replaced; cheap."""
        with self._guarded():
            status = self.path.stat()
        return status.st_ino, status.st_mtime_ns

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # A file of its own, because the ledger's inode changes with each write.
        with self._guarded():
            lock = _open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"the privacy ledger {self.path} cannot be used: {why}. It says what clients have "
            "learnt already: correct `ledger` under [privacy], or restore the file; to go on "
            "without it would give every client its whole budget again."
        )


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
