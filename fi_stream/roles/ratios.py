"""For each client, how dense a participant's training data is where its queries are.

Learnt from that client's own past queries and from nobody else's (DESIGN 10), in bounded memory.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from fi_stream.aggregation.competence import DENSITY_CAP, density_weights
from fi_stream.aggregation.density import FROM_QUERIES, Density, Past, fit
from fi_stream.clock import SystemClock
from fi_stream.values import Instant

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from fi_stream.clock import Clock
    from fi_stream.values import MemberId

_log = structlog.get_logger("participant")

MOST_CLIENTS: Final = 32
"""Clients whose past queries are kept: those that asked last."""

EVERY: Final = 50
"""Rows of a client after which its ratio is learnt again."""

RESTS: Final = 4.0
"""Times as long as it learnt nothing is learnt again: that takes a fifth of a processor at most."""


@dataclass(slots=True)
class _Client:
    past: Past = field(default_factory=Past)
    news: int = 0
    ratio: Density | None = None


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A ratio, None where the features do not let anything be told, and when it was learnt."""

    ratio: Density | None
    began: Instant
    ended: Instant


class Ratios:
    """The weights r of one participant; used by the thread of its model alone.

    What is learnt is learnt in a thread of its own, one client at a time: no answer waits for it,
    and a ratio counts from the first query after it is there. However much is asked, most of the
    processor is left to the model; only the first ratio of a client does not wait for that.

    Args:
        training: [rows, features] of the participant's own training examples.
        clock: how long learning takes.
    """

    def __init__(self, training: NDArray[np.float64], clock: Clock | None = None) -> None:
        self._training = training
        self._clock = clock or SystemClock()
        self._rests_until = self._clock.monotonic()
        self._clients: OrderedDict[MemberId, _Client] = OrderedDict()
        self._due: dict[MemberId, None] = {}
        self._learning: tuple[MemberId, _Client, Future[_Learnt]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ratio")

    def close(self) -> None:
        """End the thread; what it has in hand is of no use any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def weights(self, client: MemberId, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a client's rows weigh by those before them, which they belong to from now on.

        Args:
            client: who asked.
            features: [rows, features].

        Returns:
            [rows], from 0 to `DENSITY_CAP`; 1 while too little was asked to tell.
        """
        self._take_up()
        known = self._of(client)
        weights = np.ones(len(features))
        if known.ratio is not None:
            weights = np.minimum(density_weights(known.ratio.log_ratio(features)), DENSITY_CAP)
        known.past.asked(features)
        known.news += len(features)
        if known.news >= EVERY and len(known.past) >= FROM_QUERIES:
            self._due[client] = None
        self._learn()
        return weights

    def _of(self, client: MemberId) -> _Client:
        known = self._clients.setdefault(client, _Client())
        self._clients.move_to_end(client)
        if len(self._clients) > MOST_CLIENTS:
            gone, _ = self._clients.popitem(last=False)
            self._due.pop(gone, None)
        return known

    def _learn(self) -> None:
        """Begin with the client that is due the longest, unless one is in hand."""
        if self._learning is not None or not self._due:
            return
        rested = self._clock.monotonic() >= self._rests_until
        may = (one for one in self._due if rested or self._clients[one].ratio is None)
        if (client := next(may, None)) is not None:
            del self._due[client]
            known = self._clients[client]
            known.news = 0
            job = self._thread.submit(_fitted, self._training, known.past.kept(), self._clock)
            job.add_done_callback(lambda _: _log.debug("ratio.learnt", client=client))
            self._learning = client, known, job

    def _take_up(self) -> None:
        """Use what was learnt since."""
        if self._learning is None or not self._learning[2].done():
            return
        client, known, job = self._learning
        self._learning = None
        learnt = job.result()
        self._rests_until = Instant(learnt.ended + RESTS * (learnt.ended - learnt.began))
        if learnt.ratio is None:
            _log.warning("ratio.failed", client=client)
            return
        known.ratio = learnt.ratio


def _fitted(training: NDArray[np.float64], queries: NDArray[np.float64], clock: Clock) -> _Learnt:
    began = clock.monotonic()
    try:
        ratio = fit(training, queries)
    except np.linalg.LinAlgError:
        ratio = None
    return _Learnt(ratio, began, clock.monotonic())
