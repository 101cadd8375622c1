"""What whoever decides learnt from a client's past queries: the window of their last rows.

Pure: the same settled queries in the same order give the same bits. A query is decided by what came
before it, so none judges itself. Memory is bounded by the window's length and by the roster.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.competence import density_standing
from fi_stream.aggregation.dependence import FROM_QUERIES, gate
from fi_stream.aggregation.evidence import DENSITY, STANDING
from fi_stream.aggregation.guard import until_judged
from fi_stream.aggregation.past import Kind, Past
from fi_stream.aggregation.spectral import spectral_weights
from fi_stream.aggregation.windows import WINDOWS
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.facts import Settled
    from fi_stream.federation.policy import Policy
    from fi_stream.values import MemberId

MOST_CLIENTS = 256
"""Windows that one process keeps; whose client asked least lately is forgotten first."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the window says of its members since it was last looked at.

    `spectral` and `density` are standings; `spectral` adds up to 1, and who is not in it stands at
    the mean. `counts` is the gate's word on each member that has answered enough to be judged.
    """

    spectral: Mapping[MemberId, float] = field(default_factory=dict)
    density: Mapping[MemberId, float] = field(default_factory=dict)
    counts: Mapping[MemberId, bool] = field(default_factory=dict)

    def standing(self, rule: str, member: MemberId) -> float:
        """How a member stands under a rule of `STANDING`; the same for all until it is known."""
        if rule == DENSITY:
            return self.density.get(member, 1.0)
        return self.spectral.get(member, 1.0 / max(1, len(self.spectral)))


class EachClient:
    """A window for each client: what one asks never changes what another is told (DESIGN 10)."""

    def __init__(self, policy: Policy, most: int = MOST_CLIENTS) -> None:
        self._policy = policy
        self._most = most
        self._windows: dict[MemberId, Window] = {}

    def settle(self, settled: Settled) -> Settled:
        """As `Window.settle`, by the window of the client that asked."""
        client = settled.asked.client
        window = self._windows.pop(client, None) or Window(self._policy)
        self._windows[client] = window
        if len(self._windows) > self._most:
            del self._windows[next(iter(self._windows))]
        return window.settle(settled)


class Window:
    """The last 1,000 rows of one client's queries that settled, judged anew every 50.

    Args:
        policy: the federation's: its gate, its bound on weights, its rules and its quorum.
    """

    def __init__(self, policy: Policy) -> None:
        self._gate = policy.gate
        self._share = 1.0 if policy.weight_share is None else policy.weight_share
        self._quorum = policy.quorum
        self._spectral = bool({"spectral", "hybrid"} & set(policy.rules))
        self._density = DENSITY in policy.rules
        self._judges = self._gate or self._spectral or self._density
        self._block = 0
        self.judgement = Judgement()
        self.past = Past()

    def settle(self, settled: Settled) -> Settled:
        """A query as it is to be decided; then what was said to it is past."""
        applied = self.apply(settled)
        self.learn(applied)
        return applied

    def apply(self, settled: Settled) -> Settled:
        """A query with what is known before it: its standings, and who does not count."""
        if settled.outcome is Outcome.REJECTED:
            return settled
        one = self._gated(settled) if self._gate else settled
        rule = one.rule or one.asked.ask.rule
        standing = {}
        if rule in STANDING:
            standing = {m: self.judgement.standing(rule, m) for m in one.answers}
        if not standing and self._share >= 1:
            return one
        return replace(one, standing=standing, share=self._share)

    def learn(self, settled: Settled) -> None:
        """Take in what was said to a query, also by those who did not count."""
        if not self._judges or settled.outcome is Outcome.REJECTED:
            return
        self.past.add(settled)
        if self.past.blocks != self._block:
            self._block = self.past.blocks
            self.judgement = self._judged()

    def _gated(self, one: Settled) -> Settled:
        """Without the answers of those who are independent; by `soft` while one is not judged."""
        counts = self.judgement.counts
        out = [member for member in one.answers if not counts.get(member, True)]
        judged = all(member in counts for member in one.answers)
        asked = one.asked.ask.rule
        rule = asked if judged else until_judged(asked)
        if not out:
            return one if rule == asked else replace(one, rule=rule)
        answers = {member: given for member, given in one.answers.items() if member not in out}
        enough = len(answers) >= self._quorum
        missing = {**one.missing, **dict.fromkeys(out, Reason.INDEPENDENT)}
        return replace(
            one,
            outcome=one.outcome if enough else Outcome.NO_QUORUM,
            answers=answers,
            missing={member: missing[member] for member in sorted(missing)},
            rule=None if rule == asked else rule,
            left_out={member: one.answers[member] for member in out},
        )

    def _judged(self) -> Judgement:
        rows = WINDOWS.past(self.past.rows)
        if rows is None:
            return Judgement()
        members, said = self.past.of(rows)
        sure, density = said[Kind.SURE], said[Kind.DENSITY]
        return Judgement(
            _learnt(members, sure, spectral_weights) if self._spectral else {},
            _learnt(members, density, density_standing) if self._density else {},
            _counting(members, said[Kind.LABEL]) if self._gate else {},
        )


def _learnt(
    members: Sequence[MemberId],
    past: NDArray[np.float64],
    learn: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> dict[MemberId, float]:
    """What is learnt of those of whom enough is known: from [members, rows], NaN where nothing."""
    known = np.flatnonzero(np.isfinite(past).sum(axis=1) >= WINDOWS.warm)
    if not known.size:
        return {}
    return {
        members[at]: float(one) for at, one in zip(known.tolist(), learn(past[known]), strict=True)
    }


def _counting(members: Sequence[MemberId], labels: NDArray[np.float64]) -> dict[MemberId, bool]:
    """The gate's word on those who answered so often that it can be said.

    Who did not is no peer either: what cannot be compared would pass as dependent.
    """
    judged = np.flatnonzero((labels >= 0).sum(axis=1) >= FROM_QUERIES)
    if judged.size < 2:
        return {}
    said = np.where(labels[judged] >= 0, labels[judged], -1).astype(np.int64)
    return {members[at]: bool(one) for at, one in zip(judged.tolist(), gate(said), strict=True)}
