"""Files with private keys: made for their owner alone, refused when others may read them.

A key file is a few lines of TOML: whose it is, its kind, the private seeds in base64, and a digest
of these three that finds a damaged file.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One private key: `secret` is its raw seeds, and shows in no repr."""

    member: str
    kind: str
    secret: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """A digest of all that the file holds, in hex."""
        content = f"{self.member}\n{self.kind}\n".encode() + self.secret
        return hashlib.sha256(content).hexdigest()


def read(file: Path, kind: str, size: int) -> KeyFile:
    """Read a private key of `kind` with `size` bytes of seeds.

    Raises:
        ConfigError: the file is missing, damaged, or readable by others.
    """
    content = _private(file)
    try:
        table = tomllib.loads(content.decode("utf-8"))
        found = KeyFile(
            str(table["member"]),
            str(table["kind"]),
            base64.b64decode(str(table["secret"]), validate=True),
        )
        digest = table["sha256"]
    except (ValueError, KeyError):
        # `from None`: a parser's message may repeat what it read.
        raise _damaged(file) from None
    if found.kind != kind or len(found.secret) != size or found.sha256 != digest:
        raise _damaged(file)
    return found


def write(directory: Path, files: Mapping[str, KeyFile], *, force: bool) -> None:
    """Put key files into a directory of mode 0700, which is made if need be: all or none.

    With `force`, files of these names are replaced, else the directory must be new or empty.

    Raises:
        ConfigError: something is there already, or nothing can be written there.
    """
    directory = directory.absolute()
    apart = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        apart.mkdir(mode=0o700)
        try:
            for name, key in files.items():
                _write(apart / name, _text(key))
            _put_in_place(apart, directory, files, force=force)
        finally:
            _remove(apart, files)
    except OSError as error:
        raise ConfigError(
            f"{directory}: keys cannot be written ({error.strerror}); "
            "choose a directory that you may write to"
        ) from error


def _private(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"{file}: others may read this private key (mode {stat.S_IMODE(mode):04o}); "
                    f"run `chmod 600 {file}`, and make new keys if others had access"
                )
            return opened.read(65_536)
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such key file; set `keys` in [member], or run `fi-stream keygen`"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check its owner") from None


def _damaged(file: Path) -> ConfigError:
    return ConfigError(
        f"{file}: this key file is damaged; put back a copy, "
        "or run `fi-stream keygen --force` and have the new card added to the roster"
    )


def _text(key: KeyFile) -> str:
    return (
        f"# Private key of {key.member}: keep it to yourself, with a copy apart.\n"
        f'member = "{key.member}"\n'
        f'kind = "{key.kind}"\n'
        f'sha256 = "{key.sha256}"\n'
        f'secret = "{base64.b64encode(key.secret).decode("ascii")}"\n'
    )


def _write(file: Path, text: str) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _put_in_place(
    apart: Path, directory: Path, files: Mapping[str, KeyFile], *, force: bool
) -> None:
    if force and directory.exists():
        for name in files:
            (apart / name).replace(directory / name)
        return
    try:
        # One rename puts all in place, and never replaces a directory that has content.
        apart.rename(directory)
    except OSError as error:
        if not directory.exists():
            raise
        raise ConfigError(
            f"{directory}: is there already; choose another directory, or replace its keys with "
            "--force (what is sealed to the old keys can then never be opened)"
        ) from error


def _remove(apart: Path, files: Mapping[str, KeyFile]) -> None:
    if apart.exists():
        for name in files:
            (apart / name).unlink(missing_ok=True)
        apart.rmdir()
