"""How each participant does, for `/metrics`: worked out now and then, in a thread of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fi_stream.aggregation.past import Past
from fi_stream.aggregation.vitals import Vitals
from fi_stream.aggregation.windows import WINDOWS
from fi_stream.events.payloads import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.aggregation.facts import Settled
    from fi_stream.aggregation.vitals import Vital
    from fi_stream.roles.metrics import Board
    from fi_stream.roles.seat import Seat
    from fi_stream.values import MemberId

EVERY: Final = 50
"""Rows that must have settled since the last look before there is another."""

PAUSE: Final = 1.0
"""Seconds between two looks: however much settles, they take a few hundredths of one core."""


class Checkup:
    """Looks at the last rows of all clients, and shows what it sees of the roster in effect."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._past = Past()
        self._vitals = Vitals(len(seat.federation.task.classes))
        self._found: Mapping[MemberId, Vital] = {}
        self._looked = 0

    def settled(self, one: Settled) -> None:
        """Take in what was said to a query."""
        if one.outcome is not Outcome.REJECTED:
            self._past.add(one)

    def show_on(self, board: Board) -> None:
        """Show each participant of the roster."""
        board.show_each("participant_accuracy", lambda: self._numbers("accuracy"))
        board.show_each("participant_overconfidence", lambda: self._numbers("overconfidence"))
        board.show_each("participant_abstained", lambda: self._numbers("abstained"))
        board.show_each("participant_drifting", lambda: self._numbers("drifting"))

    async def keep_looking(self) -> None:
        """Look again whenever enough has settled; never at all of it that a busy stream brings."""
        while True:
            await asyncio.sleep(PAUSE)
            fresh = self._past.rows - self._looked
            if fresh >= EVERY:
                self._looked = self._past.rows
                seen = self._past.of(self._past.last(WINDOWS.length))
                self._found = await asyncio.to_thread(self._vitals.look, *seen, fresh)

    def _numbers(self, name: str) -> Mapping[str, float]:
        listed = self._seat.rosters.current(self._seat.clock.now()).participants
        told = {member: getattr(one, name) for member, one in self._found.items()}
        return {m: float(one) for m, one in told.items() if m in listed and one is not None}
