"""What must not live on in a forked child: noise drawn ahead, and reserved budget (DESIGN 10)."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Holds something that belongs to one process."""

    def forget(self) -> None:
        """Drop it, and any lock that another thread held at the fork."""


class Busy(Protocol):
    """Does something that must not be cut in two by a fork."""

    def hold(self) -> None:
        """Finish it, and begin nothing new."""

    def let_go(self) -> None:
        """Go on."""


_bound: WeakSet[Forgetful] = WeakSet()
_busy: WeakSet[Busy] = WeakSet()
_held: list[Busy] = []


def forget_in_children(owner: Forgetful) -> None:
    """Have `owner.forget()` called in every forked child, before any other Python code there."""
    _bound.add(owner)


def hold_while_forking(owner: Busy) -> None:
    """Have `owner.hold()` called before this process forks, and `owner.let_go()` after it."""
    _busy.add(owner)


def _hold() -> None:
    for owner in list(_busy):
        owner.hold()
        _held.append(owner)


def _let_go() -> None:
    while _held:
        _held.pop().let_go()


def _forget() -> None:
    _held.clear()
    for owner in _bound:
        owner.forget()


os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_forget)
