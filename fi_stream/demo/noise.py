"""The noise of the demo's participants, and what it asks of a federation's policy."""

from __future__ import annotations

from dataclasses import dataclass

from fi_stream.federation.policy import Form, SecaggPolicy

DELTA = 1e-5
"""Of Gaussian noise, which has one."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of every participant: epsilon for each query; None adds none.

    Noised answers are labels under randomised response, joined by vote; those that are `summed`
    are probabilities with a part each of the sum's Gaussian noise. Without noise they are
    probabilities.
    """

    epsilon: float | None
    summed: bool = False

    @property
    def form(self) -> Form:
        """What each answer carries."""
        voted = self.epsilon is not None and not self.summed
        return Form.LABEL if voted else Form.PROBABILITIES

    def section(self, queries: int) -> str:
        """`[privacy]` of a member.toml, with a budget for that many queries."""
        if self.epsilon is None:
            return '[privacy]\nmechanism = "none"\n'
        mechanism = f'"gaussian"\ndelta = {DELTA!r}' if self.summed else '"randomised_response"'
        return (
            f"[privacy]\nmechanism = {mechanism}\n"
            f"epsilon = {self.epsilon!r}\nbudget = {self.epsilon * (queries + 1)!r}\n"
            'ledger = "budget.ledger"\n'
        )

    def sums(self, participants: int) -> SecaggPolicy:
        """`[policy.secagg]`: one participant of them all may be missing from a sum."""
        delta = None if self.epsilon is None else DELTA
        most = max(2, participants - 1)
        return SecaggPolicy(k_min=most, epsilon=self.epsilon, delta=delta)
