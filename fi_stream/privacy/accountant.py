"""What an answer costs, in exact integers that are rounded up (DESIGN 10).

Pure epsilon adds up for randomised response, zCDP's rho for Gaussian noise; neither ever becomes
a float again until a total is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from enum import StrEnum

from fi_stream.errors import ConfigError

_PER_UNIT = 10**9


class Unit(StrEnum):
    """What a ledger counts in."""

    NANO_EPSILON = "nano_epsilon"
    NANO_RHO = "nano_rho"


@dataclass(frozen=True, slots=True)
class Charge:
    """A cost, a sum of costs or a limit: a whole number of billionths of epsilon or of rho."""

    unit: Unit
    amount: int

    def __post_init__(self) -> None:
        if type(self.amount) is not int or self.amount < 0:
            raise ConfigError(
                f"a privacy charge of {self.amount!r} {self.unit}: a charge is a whole number, 0 "
                "or more. Check epsilon and budget under [privacy]."
            )

    @classmethod
    def at_least(cls, unit: Unit, value: float) -> Charge:
        """The smallest charge that covers a cost: 1e-300 costs one unit.

        Args:
            unit: what is counted.
            value: epsilon or rho, read as the decimal number that a person would write for it.

        Raises:
            ConfigError: the cost is zero, negative, infinite or not a number.
        """
        return cls(unit, _whole(value, ROUND_CEILING))

    @classmethod
    def at_most(cls, unit: Unit, value: float) -> Charge:
        """The largest charge that a limit allows; arguments and errors as for `at_least`."""
        return cls(unit, _whole(value, ROUND_FLOOR))

    @property
    def value(self) -> float:
        """Epsilon or rho as a float, for showing."""
        return self.amount / _PER_UNIT

    def times(self, rows: int) -> Charge:
        """The cost of that many rows, each charged on its own."""
        return Charge(self.unit, self.amount * rows)


def _whole(value: float, rounding: str) -> int:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(
            f"a privacy cost or limit of {value!r}: it must be a positive, finite number. "
            "Check epsilon, delta and budget under [privacy]."
        )
    # Through the shortest decimal, so that three times 0.1 is 0.3 as its reader expects.
    with localcontext(prec=64):
        units = Decimal(repr(float(value))) * _PER_UNIT
        return int(units.to_integral_value(rounding))
