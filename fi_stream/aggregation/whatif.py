"""Recorded queries settled again: as they were, or as they would have been.

What a window of past queries had said of a query is in its record, and stays where nothing that it
was learnt for changes. Else the queries go through windows that begin empty, in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.aggregation.evidence import AUGMENTED, DENSITY, NAMES, OWN, SIZED, STANDING
from fi_stream.aggregation.facts import Answered, Asked, Given, Settled
from fi_stream.aggregation.window import EachClient
from fi_stream.errors import ConfigError
from fi_stream.events.payloads import Outcome
from fi_stream.events.refusals import Reason, Refusal
from fi_stream.events.tensors import Tensor, to_array
from fi_stream.federation.policy import Policy
from fi_stream.federation.references import is_own
from fi_stream.values import BrokerMillis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fi_stream.events.recording import Recorded, RecordedAnswer
    from fi_stream.values import MemberId


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What is to be other than it was; None leaves it as it was.

    `deadline_ms` counts from the query's making. Answers that were too late were not recorded, so a
    longer one changes nothing. Only these `participants` are asked. `answers` is whether the
    answers are other ones than those that were recorded, so that what was learnt of those is void.
    """

    rule: str | None = None
    deadline_ms: int | None = None
    participants: frozenset[MemberId] | None = None
    answers: bool = False


AS_IT_WAS = WhatIf()


def settled_again(queries: Sequence[Recorded], change: WhatIf) -> list[Settled]:
    """Settle recorded queries again, in the order given.

    Raises:
        ConfigError: there is no such rule, or it reads what was not recorded.
    """
    if change.rule is not None:
        _refuse(queries, change.rule)
    if not _learns(queries, change):
        return [_settled(one, change) for one in queries]
    rules = dict.fromkeys(change.rule or one.ask.rule for one in queries)
    gate = any(one.gate for one in queries)
    windows = EachClient(Policy(rules=tuple(rules), gate=gate, quorum=queries[0].quorum))
    versions: dict[frozenset[MemberId], int] = {}
    found = []
    for one in queries:
        roster = versions.setdefault(frozenset(one.participants), len(versions))
        anew = windows.settle(_settled(one, change, roster, anew=True))
        found.append(anew if _other(one, change) else _settled(one, change))
    return found


def numbers(tensor: Tensor) -> NDArray[np.generic]:
    """What a tensor holds; the reader of the file has checked that it can be read."""
    found = to_array(tensor)
    if isinstance(found, Refusal):
        raise TypeError(f"{found.reason}: {found.detail}")
    return found


def _other(one: Recorded, change: WhatIf) -> bool:
    """Whether another rule decides than the one that was asked for, or on other answers."""
    return change.answers or change.rule not in {None, one.ask.rule}


def _learns(queries: Sequence[Recorded], change: WhatIf) -> bool:
    """Whether windows must say again who counts and how all stand."""
    other = [one for one in queries if _other(one, change)]
    return any(one.gate or (change.rule or one.ask.rule) in STANDING for one in other)


def _settled(one: Recorded, change: WhatIf, roster: int = 0, *, anew: bool = False) -> Settled:
    """A query as a window had it recorded; or `anew`, as it comes to a window."""
    rule = change.rule or one.ask.rule
    ask = one.ask if rule == one.ask.rule else one.ask.model_copy(update={"rule": rule})
    participants = _participants(one, change)
    came = {a.member: a for a in sorted(_in_time(one, change), key=lambda a: a.member)}
    why = {who.member: _reason(who.reason) for who in one.result.missing}
    out = {m for m, reason in why.items() if reason is Reason.INDEPENDENT}
    counting = {m: a for m, a in came.items() if anew or m not in out}
    why = {m: reason for m, reason in why.items() if m not in out or not anew}
    sizes = {a.member: a.size for a in one.answers if a.size is not None}
    found = Settled(
        Asked(one.client, one.digest, ask, roster, participants, sizes=sizes),
        _outcome(one, change, len(counting), anew=anew),
        {m: _given(one, a, rule) for m, a in counting.items()},
        {m: why.get(m) for m in sorted(participants - counting.keys())},
        share=1.0 if one.share is None else one.share,
    )
    if anew or _other(one, change):
        return found
    standing = {m: a.standing for m, a in counting.items() if a.standing is not None}
    return replace(found, standing=standing, rule=one.result.rule)


def _outcome(one: Recorded, change: WhatIf, counting: int, *, anew: bool) -> Outcome:
    """How a query ends with so many answers that count."""
    was = one.result.outcome
    asked = _participants(one, change)
    came = {answer.member for answer in _in_time(one, change)}
    same = len(asked) == len(one.participants) and len(came) == len(one.answers)
    # a gate may have been why there were too few
    if was is Outcome.REJECTED or (same and not (anew and was is Outcome.NO_QUORUM)):
        return was
    if counting < max(1, one.quorum):
        return Outcome.NO_QUORUM
    abstained = {
        who.member
        for who in one.result.missing
        if who.reason not in {None, Reason.INDEPENDENT.code}
    }
    return Outcome.COMPLETE if asked <= came | abstained else Outcome.PARTIAL


def _participants(one: Recorded, change: WhatIf) -> frozenset[MemberId]:
    asked = frozenset(one.participants)
    return asked if change.participants is None else asked & change.participants


def _in_time(one: Recorded, change: WhatIf) -> list[RecordedAnswer]:
    """The answers of those who are asked that come before the deadline."""
    asked, until = _participants(one, change), one.ask.deadline
    if change.deadline_ms is not None:
        until = min(until, one.ask.created + change.deadline_ms)
    return [answer for answer in one.answers if answer.member in asked and answer.at <= until]


def _given(one: Recorded, answer: RecordedAnswer, rule: str) -> Given:
    """An answer as the rule reads it: with the weight in it if that was made for the rule."""
    reads = answer.own is not None and rule == weighs_for(one)
    own = np.asarray(numbers(answer.own), np.float64) if answer.own and reads else None
    prediction = np.asarray(numbers(answer.prediction), dtype=np.float64)
    at = Answered(answer.member, one.digest, BrokerMillis(answer.at))
    return Given(at, answer.model, prediction, own=own)


def weighs_for(one: Recorded) -> str:
    """The rule for which answers to this query carry weights, if they carry any.

    That is the one that was asked for; of a trace, whose `soft` reads none, that of density.
    """
    return one.ask.rule if one.ask.rule in OWN else DENSITY


def _reason(code: int | None) -> Reason | None:
    return None if code is None else Reason.from_code(code)


def _refuse(queries: Sequence[Recorded], rule: str) -> None:
    if rule not in NAMES and not is_own(rule):
        nearest = get_close_matches(rule, NAMES, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigError(f"no rule {rule!r}: {hint}The rules are {', '.join(NAMES)}.")
    for number, one in enumerate(queries, 1):
        lacking = _lacking(one, rule)
        if lacking is not None:
            raise ConfigError(f"--rule {rule}: query {number} {lacking}")


def _lacking(one: Recorded, rule: str) -> str | None:
    """What the record of a query does not hold that a rule reads, and what to do."""
    asked = one.ask.rule
    if asked == rule:
        return None
    if rule in AUGMENTED and asked not in AUGMENTED:
        return (
            f"was asked under {asked}, so that nobody answered several forms of it. "
            "Record traffic that is asked under a rule tta_*."
        )
    unweighed = [a.member for a in one.answers if a.own is None or weighs_for(one) != rule]
    if rule in OWN and unweighed:
        return (
            f"was asked under {asked}, and the answer of {unweighed[0]} carries no weight for "
            f"{rule}. Record traffic that is asked under {rule}."
        )
    unsized = [a.member for a in one.answers if a.size is None]
    if rule in SIZED and unsized:
        return (
            f"does not say how many examples {unsized[0]} learnt from. "
            "Write examples under each participant in the roster, and record again."
        )
    return None
