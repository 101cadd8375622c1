"""Each client's privacy budget at this participant: reserved durably before noise is drawn.

Reserving takes one fsync, so it is done in blocks: a crash over-counts by what was left of a
block, and never under-counts (DESIGN 10).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fi_stream.errors import ConfigError
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.privacy.accountant import Charge
from fi_stream.privacy.forks import forget_in_children
from fi_stream.privacy.ledger import Ledger, LedgerFile, Line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    """

    at_least: Charge
    at_most: Charge
    limit: Charge


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
        limit: what each client may use up.
        block: the most that one process reserves ahead for one client.

    Raises:
        ConfigError: the file cannot be used, or counts in another unit.
    """

    _lock: threading.Lock
    _purses: dict[MemberId, _Purse]
    _seen: tuple[tuple[int, int], Ledger] | None

    def __init__(self, path: Path, limit: Charge, block: Charge) -> None:
        self._file = LedgerFile(path, limit.unit)
        self._limit = limit
        self._block = self._amount(block)
        self.forget()
        forget_in_children(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def spend(self, client: MemberId, cost: Charge) -> Spent | Refusal:
        """Charge the cost of one answer, before its noise is drawn.

        Returns:
            A refusal `over_budget` when the rest of the budget does not cover it; nothing is
            charged then.

        Raises:
            ConfigError: the cost is zero or of another unit, or the ledger cannot be written.
        """
        amount = self._amount(cost)
        with self._lock:
            purse = self._purses.setdefault(client, _Purse())
            if purse.left < amount and not self._reserve(client, purse, amount):
                return Refusal(
                    Reason.OVER_BUDGET,
                    f"{cost.value:g} more is beyond {client}'s budget of {self._limit.value:g} "
                    f"{self._limit.unit.removeprefix('nano_')}",
                )
            purse.left -= amount
            purse.used += amount
            purse.unwritten += amount
            reserved = self._reserved_by_all(client)
            return Spent(client, cost, Charge(cost.unit, reserved - purse.left))

    def accounts(self) -> Mapping[MemberId, Account]:
        """What each client used up, as the file has it; reading changes nothing."""
        unit = self._limit.unit
        return {
            client: Account(Charge(unit, line.answered), Charge(unit, line.reserved), self._limit)
            for client, line in self._file.read().clients.items()
        }

    def close(self) -> None:
        """Give back what was reserved and not used."""
        with self._lock:
            if any(purse.left or purse.unwritten for purse in self._purses.values()):
                with self._file.locked() as ledger:
                    lines = dict(ledger.clients)
                    for client, purse in self._purses.items():
                        lines[client] = _settled(lines[client], purse, -purse.left)
                    self._write(ledger, lines)
            self._purses.clear()

    def forget(self) -> None:
        """Drop what is reserved: a forked child must not use, or give back, its parent's."""
        self._lock = threading.Lock()
        self._purses = {}
        self._seen = None

    def _reserve(self, client: MemberId, purse: _Purse, amount: int) -> bool:
        """Set aside at least what `amount` lacks, if the limit allows it."""
        with self._file.locked() as ledger:
            line = ledger.clients.get(client, Line())
            room = self._limit.amount - line.reserved
            lacking = amount - purse.left
            if room < lacking:
                return False
            more = min(room, lacking + min(self._block, purse.used))
            self._write(ledger, {**ledger.clients, client: _settled(line, purse, more)})
        purse.left += more
        purse.unwritten = 0
        return True

    def _write(self, ledger: Ledger, lines: dict[MemberId, Line]) -> None:
        self._file.write(ledger.model_copy(update={"clients": lines}))

    def _reserved_by_all(self, client: MemberId) -> int:
        version = self._file.version()
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._file.read()
        return self._seen[1].clients[client].reserved

    def _amount(self, charge: Charge) -> int:
        if charge.unit is not self._limit.unit or charge.amount == 0:
            raise ConfigError(
                f"a charge of {charge.amount} {charge.unit} on a budget in {self._limit.unit}: "
                "build cost and limit with the same mechanism."
            )
        return charge.amount


def _settled(line: Line, purse: _Purse, more: int) -> Line:
    return Line(reserved=line.reserved + more, answered=line.answered + purse.unwritten)
