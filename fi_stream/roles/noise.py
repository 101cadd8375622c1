"""The process that draws a role's noise: owned by the role, and spoken of in its log."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from fi_stream.federation.member import Mechanism, OwnMechanism
from fi_stream.privacy.supply import NoiseProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fi_stream.federation.member import MemberSettings
    from fi_stream.privacy.draws import NoiseSource
    from fi_stream.roles.metrics import Board

_log = structlog.get_logger("noise")


@contextmanager
def noise_drawn_ahead(settings: MemberSettings, board: Board) -> Iterator[NoiseSource | None]:
    """The source of this member's noise while its role runs; None if it adds none, or its own.

    Args:
        settings: the member's, of which `[privacy]` says whether it adds noise.
        board: shows how much was not there in time.
    """
    mechanism = Mechanism.NONE if settings.privacy is None else settings.privacy.mechanism
    if mechanism is Mechanism.NONE or isinstance(mechanism, OwnMechanism):
        yield None
        return
    late = Late()
    with NoiseProcess(late) as source:
        board.show("late_noise", lambda: late.draws)
        yield source


class Late:
    """Counts the draws that were not there in time, and says in the log what happens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1
        self.draws = 0

    def died(self, code: int | None) -> None:
        """The process ended by itself, or was ended by somebody."""
        _log.warning("noise.restarted", code=code)

    def drawn_here(self, count: int) -> None:
        """Logged when the count doubles."""
        with self._lock:
            self.draws += count
            due = self.draws >= self._next
            if due:
                self._next = 2 * self.draws
        if due:
            _log.warning("noise.late", draws=self.draws)
