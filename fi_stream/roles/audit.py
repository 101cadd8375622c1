"""Noise put to the test from end to end: a game with whoever adds it, as it always runs.

A federation of its own, on an embedded broker: the participant runs with the `[privacy]` of its
member.toml and another model, which gives one of two predictions as the query says. Somebody with
the aggregator's keys reads the answers and guesses (`privacy/distinguishing`). Of an aggregator
that adds the noise, the client does, by results that one vote decides.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fi_stream.errors import ConfigError
from fi_stream.federation.files import load_federation, load_member
from fi_stream.federation.member import Mechanism
from fi_stream.federation.policy import Protection
from fi_stream.privacy.accountant import Unit
from fi_stream.privacy.claims import claim_of
from fi_stream.privacy.distinguishing import Claim, judge
from fi_stream.privacy.guesses import neighbours, one_vote_apart
from fi_stream.roles.accounts import priced
from fi_stream.roles.audit_federation import write_aggregator, write_participant
from fi_stream.roles.audit_game import play
from fi_stream.transport.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import PrivacySection
    from fi_stream.privacy.distinguishing import Verdict
    from fi_stream.roles.accounts import Priced

FEWEST, MOST = 20_000, 200_000
"""Answers that are asked for when nobody says how many."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What came of it: whose answers, under which mechanism, and the verdict."""

    member: str
    mechanism: str
    verdict: Verdict


def enough(epsilon: float) -> int:
    """How many answers show a claim to be twice too low, where that many can be had."""
    return int(min(MOST, max(FEWEST, 40 * np.exp(min(epsilon, 20.0)))))


async def audit(
    file: Path, answers: int | None = None, told: Callable[[int, int], None] | None = None
) -> Audited:
    """Play the game with a participant's noise, or with that of an aggregator that adds it.

    Args:
        file: its member.toml; its keys, model, ledger and broker are not touched.
        answers: how many rows to ask; by the claim when not given.
        told: is called with how many answers have come, and of how many.

    Raises:
        ConfigError: it adds no noise, or promises nothing.
        NoResult: nothing is answered.
    """
    settings = load_member(file)
    federation = load_federation(settings.member.federation)
    mechanism, noise, privacy = priced(settings, federation)
    central = federation.policy.noisy_max
    claim = _claim(file, noise, privacy, federation)
    rows = answers or enough(claim.epsilon)
    with tempfile.TemporaryDirectory(prefix="fi-stream-audit-") as home, EmbeddedBroker() as broker:
        place, voting = (Path(home), broker.bootstrap), privacy.mechanism is Mechanism.NOISY_MAX
        predictions = (one_vote_apart if voting else neighbours)(len(federation.task.classes))
        if central is not None:
            game = write_aggregator(*place, federation, privacy)
        else:
            game = write_participant(*place, federation, privacy, predictions)
        played = await play(game, rows, predictions, told)
    verdict = await asyncio.to_thread(judge, played, claim)
    return Audited(settings.id, mechanism, verdict)


def _claim(file: Path, noise: Priced, privacy: PrivacySection, federation: Federation) -> Claim:
    if federation.policy.noisy_max is not None and noise.cost is not None:
        return Claim(federation.policy.noisy_max.epsilon, 0.0)
    if noise.cost is None or privacy.epsilon is None:
        raise ConfigError(
            f"{file}: mechanism {privacy.mechanism.value!r} under [privacy] promises nothing, so "
            "there is nothing to audit: whoever reads an answer has the prediction itself."
        )
    if federation.policy.protections == (Protection.SECAGG,):
        raise ConfigError(
            f"{file}: under secagg alone the noise is the federation's, and each participant adds "
            "a part of it that promises nothing by itself: there is no answer to audit."
        )
    # What is charged is what results say, also where the file would allow more a row.
    charged = noise.cost.unit is Unit.NANO_EPSILON
    epsilon = noise.cost.value if charged else privacy.epsilon
    return claim_of(noise.cost, epsilon, privacy.delta or 0.0)
