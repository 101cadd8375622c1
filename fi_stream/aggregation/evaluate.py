"""Many settled queries decided in one pass: one rule call for all that share rule and size."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.certificate import VOTES, certify
from fi_stream.aggregation.evidence import NAMES, OWN, SIZED, STANDING, Evidence, scores
from fi_stream.aggregation.rules import rule
from fi_stream.aggregation.stacks import SIMPLEX_TOLERANCE
from fi_stream.aggregation.ties import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fi_stream.aggregation.certificate import Certificate
    from fi_stream.aggregation.facts import Asked, Given, Settled
    from fi_stream.aggregation.rules import Scores, Stack
    from fi_stream.aggregation.stacks import Weights
    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The answers that count for one query.

    `digest` is the SHA-256 of the query's event. `answers` holds at least one prediction, all
    [rows, classes] of float64; labels come in through `one_hot`. `sizes`, `own` ([rows] each) and
    `standing` are the parts of `Evidence`, by member; who is not in one counts as 1 there. `share`
    is the most of all weight that one member may have.
    """

    digest: bytes
    rule: str
    answers: Mapping[MemberId, NDArray[np.float64]]
    sizes: Mapping[MemberId, float] = field(default_factory=dict)
    own: Mapping[MemberId, NDArray[np.float64]] = field(default_factory=dict)
    standing: Mapping[MemberId, float] = field(default_factory=dict)
    share: float = 1.0

    @classmethod
    def of(cls, asked: Asked, answers: Mapping[MemberId, Given]) -> Gathered:
        """The predictions among what was given to a query."""
        predictions = {m: g.prediction for m, g in answers.items() if g.prediction is not None}
        own = {m: g.own for m, g in answers.items() if g.own is not None}
        return cls(asked.digest, asked.ask.rule, predictions, asked.sizes, own)

    @classmethod
    def of_settled(cls, one: Settled) -> Gathered:
        """The same of a settled query, with what a window of past queries added to it."""
        found = cls.of(one.asked, one.answers)
        rule = one.rule or found.rule
        return replace(found, rule=rule, standing=one.standing, share=one.share)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Queries that went through one rule call: which they are, and what the rule said.

    `scores` holds `rows[0]` rows of the query `queries[0]`, and so on; `evidence` is what they are
    of.
    """

    queries: Sequence[int]
    rows: Sequence[int]
    scores: Scores
    evidence: Evidence


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What the contributors said together: `labels` [rows], `scores` [rows, classes].

    Each row of `scores` is at least 0 and adds up to 1. `withstands` [rows] is the certificate:
    how many contributors could have answered anything without changing the label, and `margin`
    [rows] the lead of the label, as a part of all that they could have given; None where the rule
    has none, or nothing bounds the answers. `weights` [participants], in order of member id, is the
    part of all weight that each answer had, the mean over the rows; None where the rule has none.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    withstands: NDArray[np.int64] | None = None
    margin: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None


def evaluate(queries: Sequence[Gathered]) -> list[Decision]:
    """Decide each query, in the order given.

    A decision does not depend, to the bit, on which other queries are decided with it.

    Raises:
        ConfigError: a query names a rule that does not exist.
    """
    decisions: dict[int, Decision] = {}
    for group in scored(queries):
        digests = [queries[index].digest for index in group.queries]
        labels = labels_of(group.scores, digests, group.rows)
        one, made = queries[group.queries[0]], normalised(group.scores)
        found = certify(one.rule, group.evidence, SIMPLEX_TOLERANCE, one.share)
        bounded = _bounded(one.rule, group.evidence.predictions)
        ends = accumulate(group.rows, initial=0)
        for query, (start, end) in zip(group.queries, pairwise(ends), strict=True):
            rows = slice(start, end)
            told = _told(found, rows, bounded=bool(bounded[rows].all()))
            decisions[query] = Decision(labels[rows], made[rows], *told)
    return [decisions[index] for index in range(len(queries))]


def scored(queries: Sequence[Gathered]) -> Iterator[Scored]:
    """Score queries, all that can go together in one rule call.

    Raises:
        ConfigError: a query names a rule that does not exist.
    """
    groups: defaultdict[tuple[str, float, int, int], list[int]] = defaultdict(list)
    for index, query in enumerate(queries):
        classes = next(iter(query.answers.values())).shape[1]
        groups[query.rule, query.share, len(query.answers), classes].append(index)
    for (name, share, _, _), indices in groups.items():
        group = [queries[index] for index in indices]
        rows = [next(iter(query.answers.values())).shape[0] for query in group]
        evidence = Evidence(
            stacked(group),
            sizes=_per_row(group, rows, [q.sizes for q in group]) if name in SIZED else None,
            own=_per_row(group, rows, [q.own for q in group]) if name in OWN else None,
            standing=_per_row(group, rows, [q.standing for q in group])
            if name in STANDING
            else None,
        )
        made = scores(name, evidence, share) if name in NAMES else rule(name)(evidence.predictions)
        yield Scored(indices, rows, made, evidence)


def _per_row(
    queries: Sequence[Gathered],
    rows: Sequence[int],
    given: Sequence[Mapping[MemberId, float] | Mapping[MemberId, NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """Numbers by member at each row, as `stacked` has predictions: [participants, rows]."""
    parts = [
        [np.broadcast_to(one.get(member, 1.0), count) for member in sorted(query.answers)]
        for query, count, one in zip(queries, rows, given, strict=True)
    ]
    return np.concatenate([np.stack(part) for part in parts], axis=1)


def _told(
    found: Certificate | None, rows: slice, *, bounded: bool
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """What a certificate says of a query's rows: withstands, margin, and weights."""
    if found is None:
        return None, None, None
    weights = _mean(found.weights[:, rows])
    return (
        (found.withstands[rows], found.margin[rows], weights) if bounded else (None, None, weights)
    )


def _bounded(name: str, stack: Stack) -> NDArray[np.bool_]:
    """Whether nobody could have said more at a row than a certificate allows for: [rows]."""
    if name == VOTES:
        return np.ones(stack.shape[1], dtype=np.bool_)  # a vote is one, whatever noise is in it
    bounded = (stack >= 0).all(axis=(0, 2))
    bounded &= (stack.sum(axis=2) <= 1 + SIMPLEX_TOLERANCE).all(axis=0)
    return np.asarray(bounded)


def _mean(weights: Weights) -> NDArray[np.float64]:
    """Over a query's rows, added one by one: the same to the bit in whatever batch."""
    return np.asarray(np.add.accumulate(weights, axis=1)[:, -1] / weights.shape[1])


def one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Answers of form `label` as predictions.

    Args:
        labels: [rows], each in 0 .. classes - 1.
        classes: how many there are.

    Returns:
        [rows, classes], a single 1 in each row.
    """
    result = np.zeros((labels.shape[0], classes))
    result[np.arange(labels.shape[0]), labels] = 1.0
    return result


def normalised(scores: Scores) -> NDArray[np.float64]:
    """Scores as probabilities, [rows, classes].

    Sums of noised answers may be negative: what is below 0 counts as 0, and a row with nothing
    above 0 knows nothing, so all its classes are equal.
    """
    positive = np.maximum(scores, 0.0)
    # accumulate, because it adds one by one however many rows there are
    total = np.add.accumulate(positive, axis=-1)[:, -1:]
    empty = total <= 0
    equal = 1.0 / scores.shape[1]
    return np.where(empty, equal, positive / np.where(empty, 1.0, total))


def stacked(queries: Sequence[Gathered]) -> Stack:
    """The rows of all queries side by side, as a rule takes them.

    Args:
        queries: with equally many contributors each.

    Returns:
        [participants, rows of all queries one after another, classes]; the participants of each
        query are sorted by member id, so that a rule may depend on their order.
    """
    answers = [[query.answers[member] for member in sorted(query.answers)] for query in queries]
    participants = list(zip(*answers, strict=True))
    flat = np.concatenate([answer for participant in participants for answer in participant])
    return flat.reshape(len(participants), -1, flat.shape[1])
