"""What is killed when: drawn from a seed and a number alone, so that it can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

PARTICIPANTS = ("p1", "p2", "p3")
AGGREGATORS = ("a1", "a2")
HELPERS = ("h1", "h2")
"""Two processes of the one helper, which share its store."""

CLIENT = "client"
BROKER = "broker"
SPARE_AGGREGATOR = "a3"
REPLICAS = {"p1-again": "p1"}
"""Second processes of a participant; like the spare aggregator, they come and go in a schedule."""

BOUND_MS = 5_000
"""A dead process's session (2 s), the group's new assignment, and the replay of its partitions."""

_HELPER_WEIGHT = 4
_WEIGHTS = {**dict.fromkeys(AGGREGATORS, 5), **dict.fromkeys(PARTICIPANTS, 2), CLIENT: 2}
_BROKER_EVERY = 6
_NOISED_EVERY = 4
_SCALED_EVERY = 2
_REPLICA_EVERY = 3
_REST = 1.5


class Action(StrEnum):
    """What happens to a process: `kill -9`, a stop in good order, a pause (SIGSTOP), or a start.

    A pause is a machine that stands still: what was due meanwhile is due at once when it goes on,
    and by then the process may have lost its partitions without knowing it.
    """

    KILL = "kill"
    STOP = "stop"
    PAUSE = "pause"
    START = "start"


_ACTIONS = {Action.KILL: 6, Action.STOP: 2, Action.PAUSE: 2}


@dataclass(frozen=True, slots=True)
class Stroke:
    """One process hit at `at`, and started again or gone on at `back`: seconds of the schedule.

    Without `back` it stays as it is then.
    """

    at: float
    back: float | None
    victim: str
    action: Action


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run: how the client asks, and the strokes in order.

    `deadlines` is the range of the queries' deadlines in milliseconds, `noised` whether answers
    carry noise and are charged for, `protection` the level of all queries, `bound_ms` how long
    after its deadline a result may come.
    """

    seed: int
    number: int
    queries: int
    seconds: float
    deadlines: tuple[int, int]
    noised: bool
    strokes: tuple[Stroke, ...]
    protection: str = "trusted"
    bound_ms: int = BOUND_MS

    @property
    def sums(self) -> bool:
        """Whether answers are only added up, which takes a helper."""
        return self.protection == "secagg"


def role_of(victim: str) -> str:
    """The role of a process, as the report names it."""
    if victim in (*AGGREGATORS, SPARE_AGGREGATOR):
        return "aggregator"
    if victim in HELPERS:
        return "helper"
    return "participant" if victim in (*PARTICIPANTS, *REPLICAS) else victim


def draw(seed: int, number: int, protection: str = "trusted") -> Schedule:
    """The schedule of that number."""
    sums = protection == "secagg"
    chance = random.Random(f"{seed}/{number}{'' if protection == 'trusted' else f'/{protection}'}")
    every = {**_WEIGHTS, **(dict.fromkeys(HELPERS, _HELPER_WEIGHT) if sums else {})}
    seconds = round(chance.uniform(3.0, 5.0), 3)
    strokes: list[Stroke] = []
    free = dict.fromkeys((*every, BROKER), 0.0)
    for at in sorted(chance.uniform(0.2, seconds) for _ in range(chance.randint(2, 5))):
        able = [victim for victim in every if free[victim] <= at]
        weights = [every[victim] for victim in able]
        victim = chance.choices(able, weights)[0] if able else None
        back = at + chance.uniform(0.0, 1.5)
        action = chance.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        longer = chance.uniform(0.0, 2.0)  # past a session, now and then
        if victim is None:
            continue
        if victim == CLIENT:
            action = Action.KILL
        if action is Action.PAUSE:
            back += longer
        free[victim] = back + _REST
        strokes.append(_stroke(at, back, victim, action))
    if chance.randrange(_BROKER_EVERY) == 0:
        at = chance.uniform(0.2, seconds)
        strokes.append(_stroke(at, at + chance.uniform(0.0, 1.0), BROKER, Action.KILL))
    for spare, seldom in {
        SPARE_AGGREGATOR: _SCALED_EVERY,
        **dict.fromkeys(REPLICAS, _REPLICA_EVERY),
    }.items():
        if chance.randrange(seldom) == 0:
            strokes += _visit(chance, spare, seconds)
    return Schedule(
        seed=seed,
        number=number,
        queries=chance.randint(150, 300),
        seconds=seconds,
        deadlines=(600, 2_500) if sums else (300, 800),
        noised=chance.randrange(_NOISED_EVERY) == 0 and not sums,
        protection=protection,
        strokes=tuple(sorted(strokes, key=lambda stroke: stroke.at)),
    )


def _visit(chance: random.Random, spare: str, seconds: float) -> list[Stroke]:
    """A process more, and mostly one less before the end."""
    came, left = sorted(chance.uniform(0.2, seconds + 1.0) for _ in range(2))
    action = chance.choice([Action.KILL, Action.STOP])
    strokes = [_stroke(came, None, spare, Action.START), _stroke(left, None, spare, action)]
    return [stroke for stroke in strokes if stroke.at <= seconds]


def _stroke(at: float, back: float | None, victim: str, action: Action) -> Stroke:
    return Stroke(round(at, 3), None if back is None else round(back, 3), victim, action)
