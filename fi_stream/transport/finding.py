"""One thing that was looked at in a member's set-up, what was found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `fix` says what to do about it, unless it is ok."""

    check: str
    state: State
    what: str
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, what)


def warning(check: str, what: str, fix: str) -> Finding:
    """It may work like this, or not for long."""
    return Finding(check, State.WARNING, what, fix)


def wrong(check: str, what: str, fix: str) -> Finding:
    """It does not work like this."""
    return Finding(check, State.WRONG, what, fix)
