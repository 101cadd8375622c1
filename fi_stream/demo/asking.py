"""The demo's client: asks each of a federation's levels, and keeps what came back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fi_stream.demo.federation import CLIENT
from fi_stream.demo.wire import bytes_of_a_query
from fi_stream.roles.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fi_stream.clock import Clock
    from fi_stream.demo.data import Digits
    from fi_stream.demo.levels import Group
    from fi_stream.federation.policy import Protection
    from fi_stream.roles.result import Result
    from fi_stream.values import Instant

DEADLINE = 2.0
IN_FLIGHT = 8


class Asking:
    """What came back under each level, in the order of the queries; `sizes` are in bytes.

    `refused` is of the federation that was asked first.

    Args:
        asked: the queries.
        clock: for the moment of the first answer.
        one_more: called after each result.
    """

    def __init__(self, asked: Digits, clock: Clock, one_more: Callable[[], None]) -> None:
        self._asked = asked
        self._clock = clock
        self._one_more = one_more
        self.results: dict[Protection, list[Result]] = {}
        self.refused: Counter[str] = Counter()
        self.first_answer: Instant | None = None
        self.sizes: dict[Protection, float] = {}

    async def ask(self, directory: Path, group: Group) -> None:
        """Ask the federation of that group, under each of its levels."""
        member, first = directory / CLIENT / "member.toml", not self.results
        async with connect(member) as client:
            for protection, count in group.counts.items():
                kept = self.results.setdefault(protection, [])
                results = client.stream(
                    iter(self._asked.images[:count]),
                    deadline=DEADLINE,
                    protection=protection.value,
                    in_flight=IN_FLIGHT,
                )
                async for result in results:
                    if self.first_answer is None and result.decided is not None:
                        self.first_answer = self._clock.monotonic()
                    kept.append(result)
                    self._one_more()
            if first:
                self.refused.update(client.refusals)
        self.sizes |= await bytes_of_a_query(member)
