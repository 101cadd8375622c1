"""What the helper does with a proposed set: open all of it, or refuse it naming the bad members.

Pure: shares, proposals and the time go in, decisions come out. That only one set is ever released
for a query is for the store to see to, before a `Ready` leaves the process (DESIGN 9).
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fi_stream.events.refusals import Reason, Refusal
from fi_stream.secagg.sets import is_canonical, set_digest
from fi_stream.secagg.shares import Bound, added, mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fi_stream.events.header import Ask
    from fi_stream.secagg.sets import Identity, ShareSet
    from fi_stream.values import Instant, MemberId

MOST_HELD: Final = 100_000
"""Shares of one participant that wait for a proposal."""

MOST_SHARES: Final = 4
"""Answers of one participant to one query that are told apart: one, and those after a crash."""


@dataclass(frozen=True, slots=True)
class Held:
    """A verified answer's share: what it answers, as its participant says, and the seed."""

    ask: Ask
    seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proposed:
    """A leader's verified proposal.

    `read` is the offset up to which it had read the responses: all of the set are before it.
    `until` is when the helper must have said something. `half` is the leader's, sealed to the
    client. `found` is the partition and offset where it was read.
    """

    identity: Identity
    ask: Ask
    roster: int
    leader: MemberId
    members: ShareSet
    half: bytes = field(repr=False)
    read: int
    until: Instant
    found: tuple[int, int] = (0, 0)

    @property
    def digest(self) -> bytes:
        """Of the set."""
        return set_digest(self.members)


@dataclass(frozen=True, slots=True)
class Ready:
    """A set that can be opened, with its seeds in the order of its members."""

    proposed: Proposed
    seeds: tuple[bytes, ...] = field(repr=False)

    def total(self, columns: int) -> NDArray[np.uint64]:
        """The helper's sum: [rows, columns], modulo 2^64."""
        client, query, digest = self.proposed.identity
        rows = self.proposed.ask.rows
        return added(
            mask(seed, Bound(client, query, digest, member, rows, columns))
            for (member, _), seed in zip(self.proposed.members, self.seeds, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A set that is not opened: why, and which members are to blame."""

    proposed: Proposed
    reason: Reason
    bad: tuple[tuple[MemberId, Reason], ...] = ()


class Releases:
    """The shares and proposals of one partition.

    Args:
        least: k_min, the fewest answers of which a sum is released.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._shares: dict[Identity, dict[tuple[MemberId, bytes], Held]] = {}
        self._ends: list[tuple[Instant, Identity]] = []
        self._held: Counter[MemberId] = Counter()
        self._proposed: dict[tuple[Identity, bytes], Proposed] = {}

    @property
    def shares(self) -> int:
        """Shares that are held."""
        return self._held.total()

    @property
    def open(self) -> int:
        """Proposals that are not decided."""
        return len(self._proposed)

    def share(
        self, identity: Identity, member: MemberId, share: bytes, held: Held, ends: Instant
    ) -> Refusal | None:
        """Keep one participant's share until `ends`, when nothing can be proposed any more."""
        of_query = self._shares.get(identity, {})
        if (member, share) in of_query:
            return Refusal(Reason.DUPLICATE, f"{member} has answered")
        before = sum(1 for one, _ in of_query if one == member)
        if before >= MOST_SHARES or self._held[member] >= MOST_HELD:
            return Refusal(Reason.OVERLOADED, f"{member}: too many shares")
        if not of_query:
            self._shares[identity] = of_query
            heapq.heappush(self._ends, (ends, identity))
        of_query[member, share] = held
        self._held[member] += 1
        return None

    def propose(self, proposed: Proposed) -> Refused | Refusal | None:
        """Take a proposal in; it is decided once all of its shares are read."""
        if not is_canonical(proposed.members):
            return Refused(proposed, Reason.MALFORMED)
        if len(proposed.members) < self._least:
            return Refused(proposed, Reason.TOO_FEW_ANSWERS)
        place = (proposed.identity, proposed.digest)
        if place in self._proposed:
            return Refusal(Reason.DUPLICATE, f"{proposed.leader} has proposed this")
        self._proposed[place] = proposed
        return None

    def decide(self, read: int, now: Instant) -> list[Ready | Refused]:
        """Decide what can be decided.

        Args:
            read: the offset up to which responses are read, and none before it waits for a grant.
            now: the time.
        """
        decided: list[Ready | Refused] = []
        for place, proposed in list(self._proposed.items()):
            of_query = self._shares.get(proposed.identity, {})
            bad = tuple(
                (member, Reason.BAD_SHARE)
                for member, share in proposed.members
                if not _fits(of_query.get((member, share)), proposed)
            )
            if not bad:
                seeds = tuple(of_query[each].seed for each in proposed.members)
                decided.append(Ready(proposed, seeds))
            elif read >= proposed.read or now >= proposed.until:
                decided.append(Refused(proposed, Reason.BAD_SHARE, bad))
            else:
                continue
            del self._proposed[place]
        return decided

    def forget(self, now: Instant) -> None:
        """Let go of the shares of queries that are over."""
        while self._ends and self._ends[0][0] <= now:
            _, identity = heapq.heappop(self._ends)
            gone = self._shares.pop(identity, {})
            self._held.subtract(member for member, _ in gone)
        self._held = +self._held if not self._shares else self._held


def _fits(held: Held | None, proposed: Proposed) -> bool:
    """Whether a share is there, and of an answer to just what the leader says was asked.

    The participant's word counts, deadline included: a leader that could move the deadline could
    have a second set released once the first is forgotten.
    """
    return held is not None and held.ask == proposed.ask
