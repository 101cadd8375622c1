"""What must not live on in a forked child: noise drawn ahead, and reserved budget (DESIGN 10)."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Holds something that belongs to one process."""

    def forget(self) -> None:
        """Drop it, and any lock that another thread held at the fork."""


_bound: WeakSet[Forgetful] = WeakSet()


def forget_in_children(owner: Forgetful) -> None:
    """Have `owner.forget()` called in every forked child, before any other Python code there."""
    _bound.add(owner)


def _forget() -> None:
    for owner in _bound:
        owner.forget()


os.register_at_fork(after_in_child=_forget)
