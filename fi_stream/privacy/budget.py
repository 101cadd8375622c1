"""The privacy budgets at one participant: reserved durably before noise is drawn.

Reserving takes a transaction, so it is done in blocks: a crash over-counts by what was left of a
block, and never under-counts (DESIGN 10).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fi_stream.errors import ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.accountant import Charge
from fi_stream.privacy.forks import forget_in_children, hold_while_forking
from fi_stream.privacy.ledger import Ledger, Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fi_stream.clock import Clock
    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True)
class Spent:
    """A cost that was charged; `total` bounds all that this client was ever charged here."""

    client: MemberId
    cost: Charge
    total: Charge


@dataclass(frozen=True, slots=True)
class Account:
    """What one client used up of `limit`: between `at_least` and `at_most`.

    The difference is reserved: replicas that still run will use it, crashed ones have burnt it.
    `granted` is the part of the limit that the client was given beside its budget.
    """

    at_least: Charge
    at_most: Charge
    limit: Charge
    granted: Charge


class _Purse:
    """This process's part for one client: units it may still use, and units it used."""

    __slots__ = ("left", "unwritten", "used")

    def __init__(self) -> None:
        self.left = 0
        self.used = 0
        self.unwritten = 0


class Budget:
    """The budgets of all clients at one participant; safe between threads, processes and forks.

    The first answer to a client reserves just itself, later ones up to as much again as this
    process already used, at most `block`: so crashes never burn more than was answered.

    Args:
        path: the ledger file.
        limit: what each client may use up, beside what it was granted.
        block: the most that one process reserves ahead for one client.
        limit_all: what all clients together may use up; None for no such limit.
        clock: says when something was written.

    Raises:
        ConfigError: the file cannot be used, or counts in another unit.
    """

    def __init__(
        self,
        path: Path,
        limit: Charge,
        block: Charge,
        limit_all: Charge | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._limit = limit
        self._block = self._amount(block)
        self._limit_all = None if limit_all is None else self._amount(limit_all)
        self._clock = clock
        self._lock = threading.Lock()
        self._purses: dict[MemberId, _Purse] = {}
        self._reserved: dict[MemberId, int] = {}
        self._version = (-1, -1)
        # Whether the next charge looks for replicas' writes; None when each one does.
        self._look: bool | None = None
        self._open: Ledger | None = Ledger(path, limit.unit, clock)
        forget_in_children(self)
        hold_while_forking(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def spend(self, client: MemberId, cost: Charge) -> Spent | Refusal:
        """Charge the cost of one answer, before its noise is drawn.

        Returns:
            A refusal `over_budget` when the rest of the client's budget, or of that of all
            clients, does not cover it; nothing is charged then, and nothing is written.

        Raises:
            ConfigError: the cost is zero or of another unit, or the ledger cannot be written.
        """
        amount = self._amount(cost)
        with self._lock:
            purse = self._purses.setdefault(client, _Purse())
            if purse.left < amount:
                refusal = self._reserve(client, purse, amount)
                if refusal is not None:
                    return refusal
            total = self._reserved_by_all(client) - purse.left + amount
            purse.left -= amount
            purse.used += amount
            purse.unwritten += amount
            return Spent(client, cost, Charge(cost.unit, total))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For charges of one moment: what replicas reserved meanwhile is looked at once for all."""
        self._look = True
        try:
            yield
        finally:
            self._look = None

    def accounts(self) -> Mapping[MemberId, Account]:
        """What each client used up, as the file has it; reading changes nothing."""
        unit = self._limit.unit
        with self._lock:
            lines = self._ledger().lines()
        return {
            client: Account(
                at_least=Charge(unit, line.answered),
                at_most=Charge(unit, line.reserved),
                limit=Charge(unit, self._limit.amount + line.granted),
                granted=Charge(unit, line.granted),
            )
            for client, line in lines.items()
        }

    def salt(self) -> bytes:
        """Random bytes of this participant alone, the same in all its processes."""
        with self._lock:
            return self._ledger().salt()

    def close(self) -> None:
        """Give back what was reserved and not used, and let go of the file."""
        with self._lock:
            if any(purse.left or purse.unwritten for purse in self._purses.values()):
                ledger = self._ledger()
                with ledger.writing():
                    ledger.write(self._given_back(ledger))
            self._purses.clear()
            if self._open is not None:
                self._open.close()
                self._open = None

    def hold(self) -> None:
        """Wait until nothing is being written, and let nothing be written."""
        self._lock.acquire()

    def let_go(self) -> None:
        """Go on after `hold`."""
        self._lock.release()

    def forget(self) -> None:
        """Drop what is reserved: a forked child must not use, or give back, its parent's."""
        self._lock = threading.Lock()
        self._purses = {}
        if self._open is not None:
            self._open.abandon()
            self._open = None

    def _ledger(self) -> Ledger:
        if self._open is None:
            self._open = Ledger(self._path, self._limit.unit, self._clock)
            self._version = (-1, -1)
        return self._open

    def _reserve(self, client: MemberId, purse: _Purse, amount: int) -> Refusal | None:
        """Set aside at least what `amount` lacks, or say which limit does not allow it."""
        ledger, lacking = self._ledger(), amount - purse.left
        with ledger.writing():
            line = ledger.line(client)
            limit = self._limit.amount + line.granted
            room = limit - line.reserved
            if room < lacking:
                return self._over(amount, f"{client}'s budget", limit)
            changed: dict[MemberId, Line] = {}
            if self._limit_all is not None:
                room_all = self._limit_all - sum(each.reserved for each in ledger.lines().values())
                if room_all < lacking:
                    # What others of our clients have not used yet is nobody's.
                    changed = self._given_back(ledger, client)
                    room_all += sum(self._purses[other].left for other in changed)
                if room_all < lacking:
                    return self._over(amount, "the budget of all clients", self._limit_all)
                room = min(room, room_all)
            more = min(room, lacking + min(self._block, purse.used))
            changed[client] = _settled(line, purse, more)
            ledger.write(changed)
        # Only now: what is not on the disk is not ours.
        for other, written in changed.items():
            settled = self._purses[other]
            settled.left = 0 if other != client else purse.left + more
            settled.unwritten = 0
            self._reserved[other] = written.reserved
        return None

    def _given_back(self, ledger: Ledger, but: MemberId | None = None) -> dict[MemberId, Line]:
        """The lines of this process's clients, but for one, once it gave back what they have."""
        return {
            client: _settled(ledger.line(client), purse, -purse.left)
            for client, purse in self._purses.items()
            if client != but and (purse.left or purse.unwritten)
        }

    def _reserved_by_all(self, client: MemberId) -> int:
        """By this process and its replicas, for one client."""
        ledger = self._ledger()
        if self._look is not False:
            version = ledger.version()
            if version != self._version:
                self._version = version
                self._reserved.clear()
            self._look = self._look and False
        if client not in self._reserved:
            self._reserved[client] = ledger.line(client).reserved
        return self._reserved[client]

    def _over(self, amount: int, whose: str, limit: int) -> Refusal:
        unit = self._limit.unit
        asked, most = Charge(unit, amount).value, Charge(unit, limit).value
        return Refusal(
            Reason.OVER_BUDGET,
            f"{asked:g} more is beyond {whose} of {most:g} {unit.removeprefix('nano_')}",
        )

    def _amount(self, charge: Charge) -> int:
        if charge.unit is not self._limit.unit or charge.amount == 0:
            raise ConfigError(
                f"a charge of {charge.amount} {charge.unit} on a budget in {self._limit.unit}: "
                "build cost and limit with the same mechanism."
            )
        return charge.amount


def _settled(line: Line, purse: _Purse, more: int) -> Line:
    return line._replace(reserved=line.reserved + more, answered=line.answered + purse.unwritten)
