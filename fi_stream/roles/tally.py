"""What was refused, counted by reason; logged when a count doubles, so no flood hides it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fi_stream.events.refusals import Reason, Refusal
    from fi_stream.roles.dead_letters import DeadLetters
    from fi_stream.transport.port import Record


class Tally:
    """The refusals and abstains of one process; poisonous records go to its dead letters."""

    def __init__(self, role: str, dead: DeadLetters | None = None) -> None:
        self._counts: Counter[Reason] = Counter()
        self.dead = dead
        self._log = structlog.get_logger(role)

    def refused(self, refusal: Refusal, record: Record | None = None) -> None:
        """Count one refused event, or one abstain."""
        self._counts[refusal.reason] += 1
        count = self._counts[refusal.reason]
        if count & (count - 1) == 0:
            where = {} if record is None else {"at": f"{record.source}@{record.offset}"}
            self._log.warning(
                "refused", reason=str(refusal.reason), detail=refusal.detail, count=count, **where
            )
        if self.dead is not None and record is not None:
            self.dead.take(refusal, record)

    def counts(self) -> Mapping[str, int]:
        """Refusals by reason, the most frequent first."""
        return {str(reason): count for reason, count in self._counts.most_common()}
