"""A liar costs a guarded federation next to nothing; each attack is what its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_utility import made_up, save

from bench.utility.__main__ import main
from bench.utility.attacks import ATTACKS, NOBODY, gradient, measure, under
from bench.utility.deciding import counting, probabilities
from bench.utility.liar import measure as harmed
from bench.utility.liar import with_liar
from fi_stream.aggregation.dependence import FROM_QUERIES
from fi_stream.aggregation.guard import GUARDED, UNGUARDED

if TYPE_CHECKING:
    from pathlib import Path

    from fi_stream.aggregation.guard import Guard
    from fi_stream.roles.traces import Trace

BELIEVING = {"soft", "entropy", "competence_entropy", "competence_energy", "competence_density"}


def test_a_liar_that_claims_ten_times_the_data_costs_two_points_at_most_with_cap_and_gate() -> None:
    for one in harmed(made_up(participants=5, rows=2500)):
        if one.rule.startswith("competence_"):
            assert one.taken < 0.5 < one.alone
        if one.rule in BELIEVING:
            assert one.lost <= 0.02
            assert one.lost_judged <= 0.02


def test_the_gate_leaves_the_liar_out_as_soon_as_it_judges() -> None:
    attacked = with_liar(made_up(participants=5, rows=800))
    counts = counting(attacked)
    assert counts[:, :FROM_QUERIES].all()
    assert counts[:-1].all()
    assert not counts[-1, FROM_QUERIES:].any()


def test_attackers_say_what_their_attack_is_named_for() -> None:
    trace = made_up(participants=5, rows=60)
    order = np.random.default_rng(7).permutation(5)
    bad, good = order[0], order[1:]
    mean = probabilities(trace.logits[good]).mean(axis=0)
    ranked = np.argsort(mean, axis=1)
    labels = {
        name: under(trace, attack, 1).logits[bad].argmax(axis=1)
        for name, (attack, _) in ATTACKS.items()
    }
    assert (labels["constant"] == 0).all()
    assert (labels["second_best"] == ranked[:, -2]).all()
    assert (labels["least_likely"] == ranked[:, 0]).all()
    assert (labels["class_confusion"] == (trace.logits[bad].argmax(axis=1) + 1) % 5).all()
    assert (labels["imitation"] == trace.logits[good[0]].argmax(axis=1)).all()
    leads = [_lead_of_the_honest(trace, said, bad) for said in (trace, under(trace, gradient, 1))]
    assert (leads[1] <= leads[0] + 1e-9).all()
    assert (leads[1] < leads[0] - 0.05).mean() > 0.9
    for attack, _ in ATTACKS.values():
        np.testing.assert_array_equal(under(trace, attack, 1).logits[good], trace.logits[good])


def _lead_of_the_honest(trace: Trace, said: Trace, bad: int) -> np.ndarray:
    """By how much the label of the honest leads in the mean of all."""
    everyone = probabilities(said.logits).mean(axis=0)
    label = probabilities(np.delete(trace.logits, bad, axis=0)).mean(axis=0).argmax(axis=1)
    rows = np.arange(label.size)
    own = everyone[rows, label].copy()
    everyone[rows, label] = -1
    return np.asarray(own - everyone.max(axis=1))


@pytest.mark.parametrize("guard", [UNGUARDED, GUARDED])
def test_every_rule_meets_every_attack(guard: Guard) -> None:
    found = list(measure(made_up(participants=5, rows=300), guard))
    assert {one.attack for one in found} == {NOBODY, *ATTACKS}
    colluding = {one.attackers for one in found if one.attack == "second_best_colluding"}
    assert colluding == {2}
    soft = {one.attack: one.accuracy for one in found if one.rule == "soft"}
    assert soft["second_best_colluding"] < soft["second_best"] < soft[NOBODY]


def test_two_participants_or_one_can_be_attacked_too() -> None:
    for participants in (1, 2):
        assert list(measure(made_up(participants=participants, rows=20), UNGUARDED))


def test_the_sections_that_are_asked_for_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(made_up(rows=250), tmp_path)
    assert main(["--traces", str(tmp_path), "liar", "attacks"]) == 0
    out = capsys.readouterr().out
    assert "claims ten times the data" in out
    assert "under attack, with cap and gate" in out
    assert "paired standard error" not in out
